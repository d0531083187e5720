#!/usr/bin/env bash
# The real data and the real clients against a fresh platform: import, recount, what others read in the tables, trends at
# ten moments, SDKs, everything again, with a restart and with kill -9 in between, and the proof that nothing was counted
# twice or lost.
#
#   tests/acceptance.sh [MILLRACE_BINARY]
#
# MILLRACE_REAL_DATA names the folder that holds gharchive/ (without it the import and the recount are skipped, aloud);
# SDK=0 leaves out the SDKs, READERS=0 the outside readers of the tables, SCHEMATHESIS=0 the requests made from /openapi.json;
# each is installed from its registry.
# PORT, KILLS during an import (default 5), ARCHIVE_KILLS while archiving (default 50).
# Exit codes: 0 all passed, 1 something differs, 2 could not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=${1:-${CARGO_TARGET_DIR:-$here/../target}/release/millrace}
port=${PORT:-18180} kills=${KILLS:-5} archive_kills=${ARCHIVE_KILLS:-50}
scratch=$(mktemp -d)

fail() {
    printf 'acceptance: %s\n' "$2" >&2
    exit "$1"
}
[ -x "$binary" ] || fail 2 "no binary at $binary: build it, or give its path"

export MILLRACE_DATA_DIR=$scratch/data
ready_within_s=30
# shellcheck source=tests/platform.sh
. "$here/platform.sh"
trap 'stop KILL; rm -rf "$scratch"' EXIT

recount() { "$here/recount/recount.py" --data "$MILLRACE_REAL_DATA/gharchive" "$@" || fail $? "the recount says so"; }
# The queries, the closed windows and the tables, against the files.
archive() {
    local with=()
    if [ -n "$python" ]; then with=(--tables "$MILLRACE_DATA_DIR/warehouse" --readers deltalake,duckdb,polars); fi
    "${python:-python3}" "$here/recount/warehouse.py" --data "$MILLRACE_REAL_DATA/gharchive" "${with[@]}" ||
        fail $? "the recount of the archive says so"
}

python=
if [ "${READERS:-1}" = 0 ]; then
    step "SKIPPED: other programs that read the tables (READERS=0)"
else
    python=$("$here/readers.sh") || fail 2 "the outside readers could not be had; READERS=0 leaves them out"
fi

start
if [ -n "${MILLRACE_REAL_DATA:-}" ]; then
    # In the order of time: replay time only goes forward.
    files=("$MILLRACE_REAL_DATA"/gharchive/2015-*.gz "$MILLRACE_REAL_DATA"/gharchive/min-*.gz)
    step "import all files"
    import
    recount
    archive
    step "everything again"
    import
    recount --expect-duplicates
    step "everything again after a restart"
    stop TERM
    start
    import
    recount --expect-duplicates
    archive
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
    archive
    step "trends at ten moments"
    python3 "$here/recount/trends.py" --binary "$binary" --data "$MILLRACE_REAL_DATA/gharchive" ||
        fail $? "the recount of the trends says so"
    if [ -d "$MILLRACE_REAL_DATA/tweets-538" ]; then
        step "trends on tweets: a real burst, and shuffled time"
        python3 "$here/trends/tweets.py" --binary "$binary" --data "$MILLRACE_REAL_DATA/tweets-538" --shuffles 1 ||
            fail $? "the tweets say so"
    fi
    if [ -d "$MILLRACE_REAL_DATA/wikipedia-edits" ]; then
        step "robots by their rate: the edits of a day"
        python3 "$here/robots/score.py" wikipedia --binary "$binary" --data "$MILLRACE_REAL_DATA/wikipedia-edits" ||
            fail $? "the robots say so"
    else
        step "SKIPPED: robots by their rate, as there is no $MILLRACE_REAL_DATA/wikipedia-edits"
    fi
else
    step "SKIPPED: set MILLRACE_REAL_DATA to the folder that holds gharchive/ to import and recount"
fi

if [ "${SDK:-1}" = 0 ]; then
    step "SKIPPED: the SDKs (SDK=0)"
else
    step "the real SDKs, in a browser too"
    "$here/sdk/run.sh" || fail $? "the SDKs say so"
fi

if [ "${SCHEMATHESIS:-1}" = 0 ]; then
    step "SKIPPED: requests made from /openapi.json (SCHEMATHESIS=0)"
else
    step "requests made from /openapi.json, to a platform of their own"
    PORT=$((port + 200)) "$here/schemathesis.sh" "$binary" || fail $? "Schemathesis says so"
fi

if [ -n "$python" ]; then
    step "kill -9 while archiving, merging and writing checkpoints ($archive_kills times)"
    "$python" "$here/archive/kill.py" --binary "$binary" --kills "$archive_kills" || fail $? "the kills say so"
fi

step "verify"
stop TERM
"$binary" verify --data-dir "$MILLRACE_DATA_DIR" || fail 1 "the replay differs from the live state"
printf '\nacceptance: all passed\n'
