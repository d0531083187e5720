#!/usr/bin/env bash
# Everything that must hold before a change is merged. Needs nothing but this tree and, the first time, the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
. scripts/env.sh

step() {
    printf '\ntest: %s\n' "$1"
    shift
    local from=$SECONDS
    "$@"
    printf 'test: done in %d s\n' $((SECONDS - from))
}

# `cargo doc` denies what `cargo test` only shows.
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet; }

step "formatting" cargo fmt --all --check
step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
step "tests, the layer table among them" cargo test --locked --workspace
step "documentation" docs
# The SDKs are installed from their registries, which takes the network each time: make acceptance runs them.
step "acceptance from outside, without SDKs" env SDK=0 tests/acceptance.sh "$CARGO_TARGET_DIR/debug/millrace"
printf '\ntest: all passed\n'
