#!/usr/bin/env bash
# Installs redis-server and redis-cli from the packages of the system. Does nothing where they are.
# Needs root, or sudo without a password. Exit codes: 0 it is there · 3 it cannot be had here.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=scripts/engines/versions.sh
. ./versions.sh

cannot() {
    echo "redis: $1" >&2
    exit 3
}

# True when the first version is the second or a later one.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

installed() {
    command -v redis-server >/dev/null 2>&1 && command -v redis-cli >/dev/null 2>&1
}

if ! installed; then
    command -v apt-get >/dev/null 2>&1 || cannot "this is no Debian: install redis-server $REDIS_VERSION_MIN or later yourself"
    run=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || cannot "run this as root, or with sudo that asks for no password"
        run=(sudo -n)
    fi
    echo "redis: installing redis-server from the packages of the system"
    "${run[@]}" apt-get update -qq || cannot "the package lists cannot be read: is there a network?"
    DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends redis-server >/dev/null ||
        cannot "the package redis-server cannot be installed: see above"
    installed || cannot "the package redis-server brought no redis-server"
fi

version="$(redis-server --version | sed -n 's/.* v=\([0-9.]*\).*/\1/p')"
at_least "$version" "$REDIS_VERSION_MIN" || cannot "version $version is older than $REDIS_VERSION_MIN: install a later one"
