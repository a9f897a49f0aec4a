# The checks themselves, one function each. Sourced by .ci/run.
# shellcheck shell=bash

# Longest a check may take, so that one that hangs is reported as such and the run ends in time.
limit() { timeout --kill-after=30 "$@"; }

check_format() {
    limit 300 cargo fmt --all --check -- --color never
}

check_lint() {
    local target packages
    # All of it natively, with its tests; then the guests again for what they are built for, because some of their
    # code exists only there.
    limit 1800 cargo clippy --locked --workspace --all-targets -- -D warnings
    for target in wasm32-unknown-unknown wasm32-wasip2; do
        mapfile -t packages < <(guests "$target")
        limit 900 cargo clippy --locked "${packages[@]/#/--package=}" --target "$target" -- -D warnings
    done
    # A workspace of its own, which takes sources of the host in by path.
    limit 900 cargo check --locked --manifest-path fuzz/Cargo.toml --lib --bins
    shellcheck --external-sources .ci/run scripts/* tests/cluster/kubernetes/update
}

# guests TARGET: the packages below components/ that are built for a target: programs are MCP servers for WASI,
# everything else must do without it.
guests() {
    cargo metadata --locked --no-deps --format-version 1 | python3 -c '
import json, os, sys

metadata = json.load(sys.stdin)
components = os.path.join(metadata["workspace_root"], "components") + os.sep
for package in metadata["packages"]:
    if package["manifest_path"].startswith(components):
        program = any("bin" in target["kind"] for target in package["targets"])
        if sys.argv[1] == ("wasm32-wasip2" if program else "wasm32-unknown-unknown"):
            print(package["name"])' "$1"
}

check_docs() {
    RUSTDOCFLAGS='-D warnings' limit 1800 cargo doc --locked --no-deps
}

check_dependencies() {
    install_cargo_deny
    # The advisory database is not on a package registry: `just advisories` asks it.
    limit 300 cargo deny --log-level error check bans licenses sources
}

# The command that README.md tells a newcomer to run is the one that runs.
check_tests() {
    local command
    command=$(readme_command tests)
    if [[ -z $command ]]; then
        echo 'README.md has no code block after `<!-- ci:tests -->`; put the test command there'
        return 1
    fi
    echo "from README.md: $command"
    limit 4200 bash -euo pipefail -c "$command"
}

# readme_command NAME: the code block that follows the comment `<!-- ci:NAME -->`.
readme_command() {
    awk -v marker="<!-- ci:$1 -->" '
        $0 == marker { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside { print }' README.md
}
