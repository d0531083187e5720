# Starts and stops the platform under test, for a script that sources this and has set `binary`, `port`, `scratch` (a folder of
# its own), `ready_within_s`, and a function `fail CODE MESSAGE`.

server=
export MILLRACE_TO=http://127.0.0.1:$port
# For the server and for everyone who reads its log here.
MILLRACE_ADMIN_TOKEN=test-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
export MILLRACE_ADMIN_TOKEN

start() {
    "$binary" up --listen "127.0.0.1:$port" --clock replay >>"$scratch/up.log" 2>&1 &
    server=$!
    local _
    for _ in $(seq $((ready_within_s * 10))); do
        if "$binary" status >/dev/null 2>&1 || [ $? -eq 1 ]; then return; fi
        kill -0 "$server" 2>/dev/null || { cat "$scratch/up.log" >&2; fail 2 "millrace up ended; its output is above"; }
        sleep 0.1
    done
    fail 2 "not ready within $ready_within_s seconds"
}

# Waits, so that the next start finds the port and the directory free.
stop() {
    # Without the 0 it would be the status that a trap was called with, and end the trap.
    if [ -z "$server" ]; then return 0; fi
    kill "-$1" "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

step() { printf '\n== %s\n' "$*"; }

# Sends `files` in, and waits until every answer has them.
import() { "$binary" import gharchive "${files[@]}" --wait || fail 1 "the import did not end well"; }
