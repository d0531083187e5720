# Starts Kafka, Redis, ClickHouse, Postgres and S3 beside a script that sources this, and sets where they are. They end with
# stop_services; when the script is killed, with it. scripts/env.sh comes first.

services=

# Starts them, installing what is missing; $1 is a file for what they say. Says why when they cannot be had.
start_services() {
    scripts/engines.sh || return 1
    cargo build --locked --quiet -p millrace-engines --example services || return 1
    # It is there before they are: it is read while they start.
    : >"$1"
    "$CARGO_TARGET_DIR/debug/examples/services" >"$1" &
    services=$!
    local _
    for _ in $(seq 1200); do
        if grep -q "^# they run" "$1"; then
            cat "$1"
            # shellcheck source=/dev/null
            . "$1"
            return 0
        fi
        kill -0 "$services" 2>/dev/null || { echo "services: the engines did not start, see above" >&2; return 1; }
        sleep 0.1
    done
    echo "services: the engines did not start within two minutes" >&2
    return 1
}

# Ends them; what they held goes with them.
stop_services() {
    if [ -z "$services" ]; then return 0; fi
    kill "$services" 2>/dev/null || true
    wait "$services" 2>/dev/null || true
    services=
}
