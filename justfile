# Everyday commands. `just` without arguments lists them; each is short enough to type by hand.

set shell := ["bash", "-euo", "pipefail", "-c"]

_default:
    @just --list --unsorted

# Get the pinned toolchain, its wasm targets and the crates
setup:
    rustup toolchain install
    cargo fetch --locked

# Install the system packages for engine tests (Debian, as root)
setup-system:
    scripts/engine packages

# Run the main job on the embedded runtime with the sample server
demo:
    cargo run -- demo

# Run all tests; those that need a Docker Engine skip without one
test *ARGUMENTS:
    cargo test {{ARGUMENTS}}

# Kill the gateway at a thousand random times, and at each request to the engine, and count what remains
chaos RUNS='1000':
    DOCKER_MCP_REQUIRE_ENGINE=1 DOCKER_MCP_CHAOS_RUNS={{RUNS}} cargo test --test chaos -- --nocapture

# Fuzz one target (catalog env_file inspect policy specification template volume); needs a C++ compiler. Our code has no unsafe part, so that no
# sanitizer, and with it no nightly toolchain, is needed
fuzz TARGET SECONDS='300':
    mkdir -p fuzz/corpus/{{TARGET}}
    RUSTFLAGS='--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares' \
        cargo run --release --manifest-path fuzz/Cargo.toml --target "$(rustc -vV | sed -n 's/^host: //p')" --bin {{TARGET}} -- \
        -max_total_time={{SECONDS}} -timeout=10 -rss_limit_mb=2048 -max_len=20000 fuzz/corpus/{{TARGET}} \
        $([ {{TARGET}} = catalog ] && echo tests/fixtures/catalog/generated tests/fixtures/catalogs)

# Measure what docs/performance.md is about, in an optimised build: parts (sandbox audit policy inspect start calls fresh kubernetes memory), --quick; kubernetes needs KUBECONFIG
bench *ARGUMENTS:
    cargo build --release --package docker-mcp --bin docker-mcp
    DOCKER_MCP_BENCH_BINARY="${DOCKER_MCP_BENCH_BINARY:-$(realpath "${CARGO_TARGET_DIR:-target}")/release/docker-mcp}" cargo bench --package docker-mcp --bench numbers -- {{ARGUMENTS}}

# Start a Docker Engine if none answers (as root)
engine:
    scripts/engine start

# Stop the Docker Engine that `just engine` started
engine-stop:
    scripts/engine stop

# Start a Kubernetes cluster with one node (as root; compiles it the first time), with the test images
cluster-up:
    scripts/cluster up
    scripts/cluster image

# Stop the cluster that `just cluster-up` started, and remove all of it
cluster-down:
    scripts/cluster down

# Make the local images of real MCP servers that the Docker tests use
images:
    scripts/test-images

# Format the sources
format:
    cargo fmt --all

# Formatting and lints as the gate has them
lint:
    .ci/run format lint

# Build the API documentation; a warning is an error
docs:
    .ci/run docs

# Check licences, banned crates and sources of the dependency tree
deny:
    .ci/run dependencies

# Ask the advisory database, which needs access to GitHub
advisories:
    cargo deny check advisories

# Everything that must hold before a change is merged (Debian, as root)
gate:
    .ci/run
