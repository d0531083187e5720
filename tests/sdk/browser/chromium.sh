#!/usr/bin/env bash
# Prints the path of Chromium, which it installs from the packages of the system where there is none.
# Installing needs root, or sudo without a password. Exit codes: 0 printed · 3 it cannot be had here.
set -euo pipefail

cannot() {
    echo "chromium: $1" >&2
    exit 3
}

found() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

if ! found; then
    command -v apt-get >/dev/null 2>&1 || cannot "this is no Debian: install Chromium yourself"
    run=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || cannot "run this as root, or with sudo that asks for no password"
        run=(sudo -n)
    fi
    echo "chromium: installing it from the packages of the system" >&2
    {
        "${run[@]}" apt-get update -qq || cannot "the package lists cannot be read: is there a network?"
        "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    } >&2 || cannot "the package chromium cannot be installed: see above"
    found || cannot "the package chromium brought no chromium"
fi
