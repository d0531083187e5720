#!/usr/bin/env bash
# Prepares a Debian-like machine to build Millrace: a C compiler, curl, the pinned Rust toolchain, the crates.
# Changes nothing that is there already, so it may run any number of times, as root or not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

# What cargo and the scripts call. The C compiler links, and compiles the allocator and the Kafka client, which wants make,
# a C++ compiler and the headers of OpenSSL, found with pkg-config.
system_packages() {
    local missing=()
    have cc || missing+=(gcc libc6-dev)
    have c++ || missing+=(g++)
    have make || missing+=(make)
    have pkg-config || missing+=(pkg-config)
    have pkg-config && pkg-config --exists openssl || missing+=(libssl-dev)
    have curl || missing+=(curl ca-certificates)
    if [ ${#missing[@]} -eq 0 ]; then
        say "system: $(cc --version | head -n 1), curl $(curl --version | awk 'NR==1 {print $2}')"
        return
    fi
    if ! have apt-get; then
        fail "no apt-get here: install a C compiler (cc) and curl with your package manager, then run this again"
    fi
    if ! as_root true; then
        fail "${missing[*]} missing, and this is neither root nor passwordless sudo:" \
            "run 'sudo apt-get install ${missing[*]}', then run this again"
    fi
    say "system: installing ${missing[*]} with apt-get"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        say "apt-get update failed; trying with the package lists that are there"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        fail "apt-get could not install ${missing[*]}: its message is above"
    # A faster linker comes along when packages are installed anyway; it is never the reason to install.
    if ! have mold; then
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mold >/dev/null 2>&1 ||
            say "mold is not to be had here; linking is slower without it"
    fi
}

# Both addresses serve the same script.
download_rustup() {
    local to=$1 url
    for url in "${RUSTUP_INIT_URL:-https://sh.rustup.rs}" https://static.rust-lang.org/rustup/rustup-init.sh; do
        if curl --fail --silent --show-error --location --retry 2 --connect-timeout 15 "$url" -o "$to"; then
            return
        fi
    done
    return 1
}

install_rustup() {
    say "rust: no cargo here; installing rustup into ${CARGO_HOME:-$HOME/.cargo}"
    local script
    script=$(mktemp)
    if ! download_rustup "$script"; then
        rm -f "$script"
        if have apt-get && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustup >/dev/null 2>&1; then
            say "rust: rustup came from the distribution"
            return
        fi
        fail "could not download rustup, see above." \
            "Install Rust $toolchain or newer in another way (https://rustup.rs, or your distribution) so that 'cargo' is on the PATH, then run this again."
    fi
    sh "$script" -y -q --no-modify-path --profile minimal --default-toolchain none >/dev/null ||
        fail "rustup could not be installed, see above"
    rm -f "$script"
    hash -r
}

rust_toolchain() {
    toolchain=${RUSTUP_TOOLCHAIN:-$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)}
    have cargo || install_rustup
    if have rustup; then
        # Names the toolchain to rustup, which would otherwise install it behind our back, or refuse to.
        if ! rustup run "$toolchain" rustc --version >/dev/null 2>&1; then
            say "rust: installing toolchain $toolchain"
            rustup toolchain install "$toolchain" --profile minimal --component rustfmt --component clippy ||
                fail "could not download Rust $toolchain, see above." \
                    "If another toolchain of that version or newer is installed (rustup toolchain list), name it: RUSTUP_TOOLCHAIN=stable make …"
        fi
        local component
        for component in rustfmt clippy; do
            rustup run "$toolchain" "cargo-${component/rustfmt/fmt}" --version >/dev/null 2>&1 ||
                rustup component add --toolchain "$toolchain" "$component"
        done
    else
        local have_version least
        have_version=$(rustc --version | awk '{print $2}')
        least=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
        if [ "$(printf '%s\n%s\n' "$least" "$have_version" | sort -V | head -n 1)" != "$least" ]; then
            fail "rustc $have_version is too old, $least or newer is needed: install rustup (https://rustup.rs), then run this again"
        fi
    fi
    say "rust: $(rustc --version)"
}

crates() {
    local host
    host=$(rustc -vV | sed -n 's/^host: //p')
    say "crates: fetching what Cargo.lock names"
    cargo fetch --locked --target "$host" ||
        fail "could not fetch the crates, see above: this needs the network once"
}

system_packages
. scripts/env.sh # a linker may have come
rust_toolchain
crates
say "builds go to $CARGO_TARGET_DIR, linker flags: ${RUSTFLAGS:-none}"
say "ready"
