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

# Begins something beside the next steps; what it says is kept until `finish` waits for it.
said=$(mktemp -d)
declare -A begun
trap 'if [ ${#begun[@]} -gt 0 ]; then kill "${begun[@]}" 2>/dev/null; fi; rm -rf "$said"' EXIT
begin() {
    "${@:2}" >"$said/$1" 2>&1 &
    begun[$1]=$!
}
finish() {
    local code=0
    wait "${begun[$1]}" || code=$?
    unset "begun[$1]"
    cat "$said/$1"
    return "$code"
}

# `cargo doc` denies what `cargo test` only shows.
docs() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet; }
# Without CI a test says itself what it cannot have.
engines() { finish engines || [ "${CI:-}" = "" ]; }

# The first time, engines take minutes to be had, and nobody needs them before the tests.
begin engines scripts/engines.sh
step "formatting" cargo fmt --all --check
step "lints" cargo clippy --locked --workspace --all-targets -- -D warnings
step "engines for tests" engines
step "building the tests" cargo test --locked --workspace --no-run
# The real clients need Python and Node to run in; the real data lies beside the checkout where there is any.
if [ -z "${SDK:-}" ]; then
    if command -v python3 >/dev/null 2>&1 && command -v npm >/dev/null 2>&1; then SDK=1; else SDK=0; fi
fi
for folder in ../*/data; do
    if [ -z "${MILLRACE_REAL_DATA:-}" ] && [ -d "$folder/gharchive" ]; then
        MILLRACE_REAL_DATA=$(cd "$folder" && pwd)
        export MILLRACE_REAL_DATA
    fi
done
if [ -z "${READERS:-}" ]; then
    if python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then READERS=1; else READERS=0; fi
fi
[ "$SDK" = 1 ] || echo "test: SKIPPED the real SDKs: python3 or npm is not there"
[ "$READERS" = 1 ] || echo "test: SKIPPED the outside readers of the tables, and Schemathesis: python3 with venv is not there"
# Both wait more than they compute: for servers that start, for groups that notice a death.
begin acceptance env SDK="$SDK" READERS="$READERS" SCHEMATHESIS="${SCHEMATHESIS:-$READERS}" tests/acceptance.sh "$CARGO_TARGET_DIR/debug/millrace"
step "tests, the layer table among them" cargo test --locked --workspace --no-fail-fast
begin documentation docs
step "acceptance from outside, begun beside the tests" finish acceptance
step "documentation" finish documentation
printf '\ntest: all passed\n'
