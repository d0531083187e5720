#!/usr/bin/env bash
# The real GH Archive data on Kafka, Redis, ClickHouse, Postgres and S3, and in a data directory: both must be what the recount
# says, give the same answers, and have the same content hash. On the engines the server is killed with -9 during the import,
# and Redis forgets everything afterwards; with WAREHOUSE=s3 the warehouse is Delta Lake on S3 instead of ClickHouse.
#
#   MILLRACE_REAL_DATA=DIR tests/engines.sh [MILLRACE_BINARY]
#
# PORT, KILLS (default 3), WAREHOUSE. Needs the programs of scripts/engines.sh.
# Exit codes: 0 equal, 1 something differs, 2 could not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."
# shellcheck source=scripts/env.sh
. scripts/env.sh
. scripts/services.sh
binary=${1:-$CARGO_TARGET_DIR/release/millrace}
port=${PORT:-18190} kills=${KILLS:-3} warehouse=${WAREHOUSE:-clickhouse}
data=${MILLRACE_REAL_DATA:-}
unset "${!MILLRACE_@}"
scratch=$(mktemp -d)

fail() {
    if [ -f "$scratch/up.log" ]; then tail -n 20 "$scratch/up.log" | cut -c1-600 >&2; fi
    printf 'engines: %s\n' "$2" >&2
    exit "$1"
}
[ -x "$binary" ] || fail 2 "no binary at $binary: build it, or give its path"
[ -d "$data/gharchive" ] || fail 2 "set MILLRACE_REAL_DATA to the folder that holds gharchive/"
files=("$data"/gharchive/2015-*.gz "$data"/gharchive/min-*.gz)

ready_within_s=60
# shellcheck source=tests/platform.sh
. "$here/platform.sh"
clean_up() {
    stop KILL
    stop_services
    rm -rf "$scratch"
}
trap clean_up EXIT

# The name of the place as argument: what it answers, and its content hash, are written down.
answers() {
    "$binary" status --wait-caught-up >/dev/null || fail 1 "it does not catch up"
    "$here/recount/answers.py" --data "$data/gharchive" >"$scratch/$1.answers" || fail 2 "the answers of $1 could not be had"
    wc -l <"$scratch/$1.answers" | xargs printf '%s: %s answers\n' "$1"
}
verify() {
    stop TERM
    "$binary" verify | tee "$scratch/$1.verify" || fail 1 "the replay of $1 differs from the live state"
    grep 'content hash' "$scratch/$1.verify" >"$scratch/$1.hash"
}
same() {
    diff "$scratch/directory.$1" "$scratch/$2.$1" >"$scratch/diff" && return
    head -n 20 "$scratch/diff" | cut -c1-300 >&2
    fail 1 "$2 has other $1 than a data directory; the first differences are above"
}

step "in a data directory"
export MILLRACE_DATA_DIR=$scratch/directory
start
import
answers directory
verify directory

step "starting the engines"
start_services "$scratch/services" || fail 2 "without engines there is nothing to compare"
if [ "$warehouse" = s3 ]; then MILLRACE_WAREHOUSE_URL=${MILLRACE_STATE_URL/\/millrace?/\/tables?}; fi
"$binary" doctor | cut -c1-160 || true

step "on the engines, with kill -9 during the import ($kills times), the warehouse on $warehouse"
export MILLRACE_DATA_DIR=$scratch/engines
start
import >"$scratch/import.log" 2>&1 &
importer=$!
for _ in $(seq "$kills"); do
    sleep "$((RANDOM % 2 + 1)).$((RANDOM % 10))"
    stop KILL
    start
done
wait "$importer" || { cat "$scratch/import.log" >&2; fail 1 "the import did not survive the kills"; }
tail -n 1 "$scratch/import.log"
answers engines
"$here/recount/recount.py" --allow-duplicates --data "$data/gharchive" || fail $? "the recount says so"
python3 "$here/recount/warehouse.py" --data "$data/gharchive" || fail $? "the recount of the archive says so"
same answers engines

step "after Redis forgot everything"
redis=${MILLRACE_ONLINE_URL#redis://}
redis=${redis%%/*}
redis-cli -u "redis://$redis" FLUSHALL
# The loss is noticed within a second; from then on nothing is called caught up until all is there again.
sleep 2
answers flushed
same answers flushed
verify engines
same hash engines
printf '\nengines: the same answers and the same content hash as in a data directory\n'
