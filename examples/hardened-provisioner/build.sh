#!/usr/bin/env bash
# Makes `hardened.wasm`: the built-in provisioner `docker` with this policy around it.
#
# Needs the target wasm32-unknown-unknown, `wasm-tools`, `wac` and `docker-mcp` on the path.
set -euo pipefail
cd "$(dirname "$0")"

cargo build --release --locked --target wasm32-unknown-unknown
built=${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/release
wasm-tools component new "$built/hardened_provisioner.wasm" -o wrapper.wasm
docker-mcp provisioner export docker docker.wasm --force
# The runtime that `docker` wants is the one that the wrapper offers.
wac plug docker.wasm --plug wrapper.wasm -o hardened.wasm
