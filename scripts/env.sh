# shellcheck shell=bash
# Sourced by the Makefile, the scripts and .ci/run, never run: where cargo is, where builds go, which linker.

# A container may start us without a home; cargo and rustup need one.
if [ -z "${HOME:-}" ] || [ ! -d "$HOME" ] || [ ! -w "$HOME" ]; then
    HOME="${TMPDIR:-/tmp}/millrace-home-$(id -u)"
    mkdir -p "$HOME"
fi
export HOME

case ":$PATH:" in
    *":${CARGO_HOME:-$HOME/.cargo}/bin:"*) ;;
    *) PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH" ;;
esac
export PATH

# Outside the tree: several checkouts share one build, and the tree stays clean.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/millrace-target}"

# mold links a test binary in a fraction of a second. Without it rustc uses what it brings, only slower.
if [ -z "${RUSTFLAGS+set}" ]; then
    if command -v mold >/dev/null 2>&1; then
        export RUSTFLAGS="-Clink-arg=-fuse-ld=mold"
    elif command -v ld.lld >/dev/null 2>&1; then
        export RUSTFLAGS="-Clink-arg=-fuse-ld=lld"
    fi
fi
