#!/usr/bin/env bash
# Installs ClickHouse for tests: the engine as a library, which tests/engines/clickhouse_server.py serves over HTTP.
# Does nothing when it is there. Exits 3 when it cannot be had.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

venv="$MILLRACE_ENGINES/clickhouse"
mark="$venv/installed-$CHDB_CORE_VERSION"
[ -e "$mark" ] && exit 0

give_up() {
    echo "ClickHouse cannot be had: $1" >&2
    exit 3
}

root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo "installing Python with venv"
    { root apt-get update -qq && root apt-get install -y -qq python3-venv; } >/dev/null ||
        give_up "it needs Python 3.9 or later with venv, and no package could be installed: install python3-venv"
fi

echo "installing ClickHouse $CHDB_CORE_VERSION (180 MB) in $venv"
mkdir -p "$MILLRACE_ENGINES" || give_up "$MILLRACE_ENGINES cannot be made: set MILLRACE_ENGINES to a folder that can"
rm -rf "$venv"
python3 -m venv "$venv" || give_up "no Python environment could be made in $venv"
# Without what it needs only to hand tables over to Python.
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "chdb-core==$CHDB_CORE_VERSION" ||
    give_up "pip could not install chdb-core $CHDB_CORE_VERSION: is a package index reachable, is this x86-64 or arm64?"
"$venv/bin/python" -c 'from chdb import _chdb; _chdb.connect(":memory:").close()' ||
    give_up "the engine does not start on this machine"
touch "$mark"
