# Makes a bare machine ready to build: system packages, toolchain, crates. Sourced by .ci/run and scripts/engine.
# shellcheck shell=bash

# An engine and what it needs, a static shell for test images, a registry to pull from, what a Kubernetes node needs
# beside it, a C compiler for `ring`, and a reader of shell scripts.
packages=(build-essential busybox-static ca-certificates containerd containernetworking-plugins curl dbus docker.io
    docker-registry gnome-keyring iproute2 iptables nftables openssl procps runc shellcheck util-linux)
cargo_deny_version=0.20.2

install_packages() {
    local package missing=()
    # Node and Python come with the machine, as a rule from elsewhere than Debian; then Debian's are not wanted.
    if ! command -v npm >/dev/null; then packages+=(npm); fi
    if ! python3 -m pip --version >/dev/null 2>&1; then packages+=(python3-pip); fi
    for package in "${packages[@]}"; do
        if ! dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed; then
            missing+=("$package")
        fi
    done
    if ((${#missing[@]} == 0)); then
        echo 'all there'
        return
    fi
    export DEBIAN_FRONTEND=noninteractive
    retry apt-get update -q
    # Services do not start here: the gate starts its own engine, and tests their own registry.
    retry env RUNLEVEL=1 apt-get install -q -y --no-install-recommends -o Acquire::Retries=3 "${missing[@]}"
}

# What rust-toolchain.toml names. Said explicitly because RUSTUP_AUTO_INSTALL=0 may be set.
install_toolchain() {
    retry rustup toolchain install
    rustc --version
    cargo --version
}

fetch_crates() {
    retry cargo fetch --locked
}

install_cargo_deny() {
    local started=$SECONDS
    if [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $cargo_deny_version" ]]; then return; fi
    # Built for a short wait, not for speed: it runs for a few seconds.
    retry env CARGO_TARGET_DIR="$CARGO_TARGET_DIR/ci/cargo-deny" CARGO_PROFILE_RELEASE_LTO=off \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet --locked cargo-deny --version "$cargo_deny_version" --force
    rm -rf "$CARGO_TARGET_DIR/ci/cargo-deny"
    echo "cargo-deny $cargo_deny_version installed in $((SECONDS - started)) s"
}
