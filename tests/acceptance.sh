#!/usr/bin/env bash
# The real data and the real clients against a fresh platform: import, recount, SDKs, everything again, with a restart and
# with kill -9 in between, and the proof that nothing was counted twice.
#
#   tests/acceptance.sh [MILLRACE_BINARY]
#
# MILLRACE_REAL_DATA names the folder that holds gharchive/ (without it the import and the recount are skipped, aloud);
# SDK=0 leaves out the SDKs, which are installed from their registries. PORT, KILLS (default 5).
# Exit codes: 0 all passed, 1 something differs, 2 could not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=${1:-${CARGO_TARGET_DIR:-$here/../target}/release/millrace}
port=${PORT:-18180} kills=${KILLS:-5}
scratch=$(mktemp -d)
server=

fail() {
    printf 'acceptance: %s\n' "$2" >&2
    exit "$1"
}
[ -x "$binary" ] || fail 2 "no binary at $binary: build it, or give its path"

export MILLRACE_TO=http://127.0.0.1:$port MILLRACE_DATA_DIR=$scratch/data
# For the server and for everyone who reads its log here.
MILLRACE_ADMIN_TOKEN=acceptance-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
export MILLRACE_ADMIN_TOKEN
start() {
    "$binary" up --listen "127.0.0.1:$port" --clock replay >>"$scratch/up.log" 2>&1 &
    server=$!
    for _ in $(seq 300); do
        if "$binary" status >/dev/null 2>&1 || [ $? -eq 1 ]; then return; fi
        kill -0 "$server" 2>/dev/null || { cat "$scratch/up.log" >&2; fail 2 "millrace up ended; its output is above"; }
        sleep 0.1
    done
    fail 2 "not ready within 30 seconds"
}
# Waits, so that the next start finds the port and the directory free.
stop() {
    if [ -z "$server" ]; then return; fi
    kill "-$1" "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
trap 'stop KILL; rm -rf "$scratch"' EXIT

step() { printf '\n== %s\n' "$*"; }
recount() { "$here/recount/recount.py" --data "$MILLRACE_REAL_DATA/gharchive" "$@" || fail $? "the recount says so"; }
import() { "$binary" import gharchive "${files[@]}" --wait || fail 1 "the import did not end well"; }

start
if [ -n "${MILLRACE_REAL_DATA:-}" ]; then
    # In the order of time: replay time only goes forward.
    files=("$MILLRACE_REAL_DATA"/gharchive/2015-*.gz "$MILLRACE_REAL_DATA"/gharchive/min-*.gz)
    step "import all files"
    import
    recount
    step "everything again"
    import
    recount --expect-duplicates
    step "everything again after a restart"
    stop TERM
    start
    import
    recount --expect-duplicates
    stop TERM

    step "the same on an empty directory, with kill -9 ($kills times)"
    rm -rf "$MILLRACE_DATA_DIR"
    start
    import >"$scratch/import.log" 2>&1 &
    importer=$!
    for _ in $(seq "$kills"); do
        sleep "0.$((RANDOM % 9 + 1))"
        stop KILL
        start
    done
    wait "$importer" || { cat "$scratch/import.log" >&2; fail 1 "the import did not survive the kills"; }
    tail -n 1 "$scratch/import.log"
    recount --allow-duplicates
else
    step "SKIPPED: set MILLRACE_REAL_DATA to the folder that holds gharchive/ to import and recount"
fi

if [ "${SDK:-1}" = 0 ]; then
    step "SKIPPED: the SDKs (SDK=0)"
else
    step "the real Segment SDKs"
    "$here/sdk/run.sh" || fail $? "the SDKs say so"
fi

step "verify"
stop TERM
"$binary" verify --data-dir "$MILLRACE_DATA_DIR" || fail 1 "the replay differs from the live state"
printf '\nacceptance: all passed\n'
