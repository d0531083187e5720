#!/usr/bin/env bash
# Builds Millrace, starts it on an empty data directory, sends a simulated population in through the front door, and
# prints what came out. With ONCE=1 it stops there; otherwise it serves until Ctrl-C.
#
# With CLUSTER=1 it does so on Kafka, Redis, ClickHouse, Postgres and S3, which it starts too.
#
# Variables: ONCE, CLUSTER, SEED, USERS, EVENTS, PORT (a free one from 8080 up), DATA_DIR (kept; default: a temporary one, removed).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
. scripts/env.sh

# What is set for another Millrace is not for this one.
unset "${!MILLRACE_@}"

seed=${SEED:-1} users=${USERS:-500} events=${EVENTS:-20000}
bold=$'\033[1m' plain=$'\033[0m'
[ -t 1 ] || bold='' plain=''

say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

port_in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() {
    local port
    for port in $(seq 8080 8180); do
        if ! port_in_use "$port"; then
            echo "$port"
            return
        fi
    done
    fail "every port from 8080 to 8180 is taken: name a free one, PORT=9000 make demo"
}

server=
stop_server() {
    if [ -z "$server" ]; then return 0; fi
    local code=0
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" || code=$?
    server=
    return "$code"
}
. scripts/services.sh
clean_up() {
    stop_server || true
    stop_services
    if [ -n "${scratch:-}" ]; then rm -rf "$scratch"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The first field of that name in the JSON on standard input: enough for ids, numbers and plain text.
field() {
    awk -v name="\"$1\":" '{
        at = index($0, name)
        if (!at) next
        value = substr($0, at + length(name))
        if (value ~ /^"/) { value = substr(value, 2); sub(/".*/, "", value) } else sub(/[,}].*/, "", value)
        print value
        exit
    }'
}
# Never through a proxy: the server is on this machine.
get() { curl --noproxy "*" --fail --silent --show-error --max-time 20 "$url$1"; }

say "Building (optimised; a few minutes the first time)"
cargo build --locked --release -p millrace
millrace="$CARGO_TARGET_DIR/release/millrace"

scratch=$(mktemp -d)
if [ -n "${CLUSTER:-}" ]; then
    say "Starting Kafka, Redis, ClickHouse, Postgres and S3"
    start_services "$scratch/services" || fail "without engines there is only the plain demo: make demo"
fi

say "Starting the platform"
data_dir=${DATA_DIR:-$scratch/data}
port=${PORT:-$(free_port)}
url="http://127.0.0.1:$port"
"$millrace" up --data-dir "$data_dir" --listen "127.0.0.1:$port" >"$scratch/up.log" 2>&1 &
server=$!
for _ in $(seq 300); do
    if curl --noproxy "*" --fail --silent --max-time 2 "$url/readyz" >/dev/null; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$scratch/up.log" >&2; fail "millrace up ended; its output is above"; }
    sleep 0.1
done
get /readyz >/dev/null || { cat "$scratch/up.log" >&2; fail "not ready within 30 seconds; its output is above"; }
cat "$scratch/up.log"

# A hundred events a second of their own time, ending about now: a feed of last year's posts would say little.
history=(--seed "$seed" --users "$users" --events "$events" --start "$(date -u -d "-$((events / 100)) seconds" +%Y-%m-%dT%H:%M:%SZ)")

say "Sending $users users and $events events in (seed $seed)"
"$millrace" simulate "${history[@]}" --to "$url" --wait | tee "$scratch/simulate.log"

# The same seed is the same events: written to a file they say who follows most, and so has a feed worth showing.
"$millrace" simulate "${history[@]}" --out "$scratch/events.ndjson"
viewers=$(awk '/"event":"user_followed"/ && match($0, /"userId":"[^"]*"/) { n[substr($0, RSTART + 10, RLENGTH - 11)]++ }
    END { for (u in n) print n[u], u }' "$scratch/events.ndjson" | sort -k1,1nr -k2,2 | awk 'NR <= 50 {print $2}')
for viewer in $viewers; do
    # A busy machine may have no feed in time, and says so.
    get "/v1/feeds/home?viewer=$viewer&limit=10" >"$scratch/feed.json" || continue
    if grep -q '"post_id"' "$scratch/feed.json"; then break; fi
done
# One item a line.
sed 's/},{/}\n{/g' "$scratch/feed.json" | grep '"post_id"' >"$scratch/items" ||
    fail "no viewer has a feed: the answer was $(cat "$scratch/feed.json")"

say "The home feed of $viewer (GET /v1/feeds/home?viewer=$viewer&limit=10)"
while read -r item; do
    post=$(field post_id <<<"$item")
    text=$(get "/v1/posts/$post" | field text)
    printf '%3s  %-9s %-14s by %-12s %-9s %.60s\n' "$(field position <<<"$item")" "$(field score <<<"$item" | cut -c1-8)" \
        "$post" "$(field author_id <<<"$item")" "$(field reason <<<"$item")" "$text"
done <"$scratch/items"

say "What its busiest posts have drawn (GET /v1/posts/{post_id}/engagement)"
printf '%-14s %7s %8s %7s %7s %9s %7s\n' post views viewers clicks likes comments shares
while read -r item; do
    post=$(field post_id <<<"$item")
    counts=$(get "/v1/posts/$post/engagement")
    printf '%-14s %7s %8s %7s %7s %9s %7s\n' "$post" "$(field views <<<"$counts")" "$(field unique_viewers <<<"$counts")" \
        "$(field clicks <<<"$counts")" "$(field likes <<<"$counts")" "$(field comments <<<"$counts")" "$(field shares <<<"$counts")"
done <"$scratch/items" | sort -k2,2nr | awk 'NR <= 5'

# What the JSON of an answer lists, one item a line.
items() { sed 's/},{/}\n{/g' | grep "\"$1\"" || true; }

# Lists are brought up to date when the clock enters another second.
sleep 2
say "What rises (GET /v1/trends/tags?window=5m&limit=5)"
printf '%4s  %-16s %7s %9s %8s  %s\n' rank tag count baseline score rising
get "/v1/trends/tags?window=5m&limit=5" | items tag | while read -r item; do
    printf '%4s  %-16s %7s %9.1f %8.2f  %s\n' "$(field rank <<<"$item")" "$(field tag <<<"$item")" "$(field count <<<"$item")" \
        "$(field baseline <<<"$item")" "$(field score <<<"$item")" "$(field rising <<<"$item")"
done

say "The past, from the tables (GET /v1/queries/events_by_name?format=csv)"
get "/v1/queries/events_by_name?format=csv" | tr -d '\r' | awk -F, '{ printf "%-20s %10s\n", $1, $2 }' | sed -n 1,10p
if [ -z "${CLUSTER:-}" ]; then echo "the tables are in $data_dir/warehouse: any Delta reader opens them"; fi

say "Rates, and how far everything is (GET /v1/status)"
tail -n 1 "$scratch/simulate.log"
"$millrace" status --to "$url" --wait-caught-up

if [ -n "${ONCE:-}" ]; then
    say "Stopping"
    stop_server || fail "millrace up did not end cleanly; its output: $(tail -n 20 "$scratch/up.log")"
    echo "stopped cleanly; without ONCE=1 it keeps serving"
    exit 0
fi

say "Serving on $url until Ctrl-C"
echo "try: curl '$url/v1/feeds/home?viewer=$viewer&limit=5&explain=true'"
# From here on a signal is the expected end.
trap 'exit 0' INT TERM
wait "$server"
