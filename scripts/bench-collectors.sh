#!/usr/bin/env bash
# Our collector and another one, each alone, on one Kafka broker that this starts, with the same bodies: BENCHMARKS.md, "Beside
# another collector". Builds what it needs; the other one is built with Go, see tests/peers/README.md.
#
# Variables: EVENTS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
. scripts/services.sh

unset "${!MILLRACE_@}"

scratch=$(mktemp -d)
peer=
clean_up() {
    if [ -n "$peer" ]; then kill "$peer" 2>/dev/null || true; fi
    stop_services
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

command -v go >/dev/null 2>&1 || { echo "bench: the other collector is built with Go, which is not here" >&2; exit 3; }
echo "bench: building the other collector, some minutes the first time"
(cd tests/peers/benthos && go build -o "$scratch/benthos" .)
start_services "$scratch/services"
broker=${MILLRACE_LOG_URL#*://}
broker=${broker%%/*}
broker=${broker##*@}

# The other one makes no topics, and Kafka none by itself: it gets one of ours, with as many partitions.
(
    unset "${!MILLRACE_@}"
    "$CARGO_TARGET_DIR/release/millrace" up --roles collector --listen 127.0.0.1:0 --data-dir "$scratch/topics" \
        --log "kafka://$broker/peer?replication=1&min_insync=1" >"$scratch/topics.log" 2>&1 &
    maker=$!
    for _ in $(seq 200); do
        if grep -q "listens on" "$scratch/topics.log"; then break; fi
        sleep 0.1
    done
    kill "$maker"
    wait "$maker" || true
)

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
PORT=$port BROKER=$broker TOPIC=peer.actions "$scratch/benthos" -c tests/peers/benthos/collector.yaml >"$scratch/peer" 2>&1 &
peer=$!
for _ in $(seq 100); do
    if curl -fs "http://127.0.0.1:$port/ready" >/dev/null 2>&1; then break; fi
    kill -0 "$peer" 2>/dev/null || { cat "$scratch/peer" >&2; exit 2; }
    sleep 0.1
done
"$CARGO_TARGET_DIR/release/millrace" bench collector ${EVENTS:+--events "$EVENTS"} \
    --peer "benthos=$peer=http://127.0.0.1:$port/one=http://127.0.0.1:$port/many"
