#!/usr/bin/env bash
# Installs the server of Postgres from the packages of the system. Does nothing where it is. Starts none.
# Needs root, or sudo without a password. Exit codes: 0 it is there · 3 it cannot be had here.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=scripts/engines/versions.sh
. ./versions.sh

cannot() {
    echo "postgres: $1" >&2
    exit 3
}

# Where initdb and the server are: on the PATH, or where Debian puts the newest version. Nothing when they are nowhere.
programs() {
    local initdb
    initdb="$(command -v initdb || find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)"
    if [ -n "$initdb" ] && [ -x "$(dirname "$initdb")/postgres" ]; then dirname "$initdb"; fi
}

if [ -z "$(programs)" ]; then
    command -v apt-get >/dev/null 2>&1 || cannot "this is no Debian: install Postgres $POSTGRES_VERSION_MIN or later yourself"
    run=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || cannot "run this as root, or with sudo that asks for no password"
        run=(sudo -n)
    fi
    echo "postgres: installing postgresql from the packages of the system"
    "${run[@]}" apt-get update -qq || cannot "the package lists cannot be read: is there a network?"
    # Without a server that the package would start by itself.
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null ||
        cannot "the package postgresql-common cannot be installed: see above"
    "${run[@]}" mkdir -p /etc/postgresql-common/createcluster.d
    echo "create_main_cluster = false" | "${run[@]}" tee /etc/postgresql-common/createcluster.d/millrace.conf >/dev/null
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null ||
        cannot "the package postgresql cannot be installed: see above"
    [ -n "$(programs)" ] || cannot "the package postgresql brought no initdb"
fi

major="$("$(programs)/postgres" --version | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p')"
[ "${major:-0}" -ge "$POSTGRES_VERSION_MIN" ] || cannot "version ${major:-unknown} is older than $POSTGRES_VERSION_MIN: install a later one"
if [ "$(id -u)" -eq 0 ]; then
    command -v setpriv >/dev/null 2>&1 || cannot "the server refuses to run as root, and setpriv (util-linux) is not there"
    id postgres >/dev/null 2>&1 || cannot "the server refuses to run as root, and the user postgres is not there"
fi
