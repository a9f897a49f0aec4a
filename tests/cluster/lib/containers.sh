# The container runtime and its images. It is a containerd of our own, with nothing in common with Docker's. Sourced by
# scripts/cluster.
# shellcheck shell=bash

containerd_socket=$state/run/containerd.sock
pause_image=docker.io/mcp-cluster/pause:1

in_containerd() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

start_containerd() {
    mkdir -p "$state/run" "$state/containerd" "$state/registries"
    cat >"$state/containerd.toml" <<TOML
version = 2
root = "$state/containerd"
state = "$state/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing", "io.containerd.internal.v1.opt"]

[grpc]
address = "$containerd_socket"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$pause_image"
# The machine may forbid to make a process safer from the memory killer than its parent is.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "$state/cni/bin"
conf_dir = "$state/cni/net.d"

# Registries on 127.0.0.1 are asked over plain HTTP; here is nothing about others.
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "$state/registries"
TOML
    launch containerd containerd --config "$state/containerd.toml"
    await 120 'containerd answers' in_containerd version
    import_pause
}

# An image of one static program, in the format of `docker save`, which needs no engine to make.
import_pause() {
    local work=$state/pause layer
    mkdir -p "$work/root"
    cp "$tools/pause" "$work/root/pause"
    tar -C "$work/root" --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" pause
    layer=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
    printf '{"architecture": "%s", "os": "linux", "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
        "$(machine_architecture)" "$layer" >"$work/config.json"
    printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]' "$pause_image" >"$work/manifest.json"
    tar -C "$work" -c manifest.json config.json layer.tar | in_containerd images import - >/dev/null
    in_containerd images label "$pause_image" io.cri-containerd.pinned=pinned >/dev/null
    rm -rf "$work"
}

machine_architecture() { case $(uname -m) in aarch64) echo arm64 ;; *) echo amd64 ;; esac; }

# import_images TAG...: what Docker has under these names and the cluster does not have yet.
import_images() {
    local tag id record
    mkdir -p "$state/images"
    for tag in "$@"; do
        id=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null) ||
            die "Docker has no image \`$tag\`; the test images are made by \`scripts/test-images\`"
        record=$state/images/${tag//[\/:]/-}
        if [[ $(cat "$record" 2>/dev/null) == "$id" ]]; then continue; fi
        docker save "$tag" | in_containerd images import - >/dev/null
        echo "$id" >"$record"
        say "imported $tag"
    done
}

# Ends every container of ours, with containerd and what it mounted.
stop_containers() {
    local task pid shim
    if alive containerd && in_containerd version >/dev/null 2>&1; then
        for task in $(in_containerd tasks ls --quiet); do
            in_containerd tasks rm --force "$task" >/dev/null 2>&1 || true
        done
    fi
    # What a containerd that was killed left running: known by our socket among its arguments.
    for shim in /proc/[0-9]*; do
        pid=${shim#/proc/}
        if tr '\0' ' ' 2>/dev/null <"$shim/cmdline" | grep -q "^[^ ]*containerd-shim[^ ]* .*-address $containerd_socket "; then
            # shellcheck disable=SC2046 # the children's numbers are words
            kill -9 $(pgrep --parent "$pid") "$pid" 2>/dev/null || true
        fi
    done
    halt containerd
    unmount_all
}

unmount_all() {
    local target
    # The last one mounted first.
    awk -v below="$state/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r target; do
        umount "$target" 2>/dev/null || umount --lazy "$target"
    done
}
