#!/usr/bin/env bash
# Schemathesis against a fresh platform with a simulated population: requests made from /openapi.json, right and wrong ones. No
# answer may be a 5xx, and each must be as the document says.
#
#   tests/schemathesis.sh [MILLRACE_BINARY]
#
# It is installed once into MILLRACE_CACHE (default ~/.cache/millrace-schemathesis). PORT, SEED (default 1), EXAMPLES (default 20: the
# most requests of the fuzzing phase for one operation; the coverage phase makes what it makes).
# Exit codes: 0 all passed, 1 a check failed, 2 could not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath -- "${1:-${CARGO_TARGET_DIR:-$here/../target}/release/millrace}")
port=${PORT:-18380} seed=${SEED:-1} examples=${EXAMPLES:-20}
cache=${MILLRACE_CACHE:-$HOME/.cache/millrace-schemathesis}
version=4.32.5
scratch=$(mktemp -d)

fail() {
    printf 'schemathesis: %s\n' "$2" >&2
    exit "$1"
}
[ -x "$binary" ] || fail 2 "no binary at $binary: build it, or give its path"

# A mark is written last, so that an installation that was cut short is made again.
mark="$cache/python/schemathesis-$version.ok"
if [ ! -e "$mark" ]; then
    command -v python3 >/dev/null || fail 2 "python3 is not there"
    echo "installing schemathesis $version into $cache/python"
    mkdir -p "$cache"
    python3 -m venv --clear "$cache/python" || fail 2 "cannot make a Python environment: install the venv module"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version" || fail 2 "cannot install schemathesis"
    touch "$mark"
fi

export MILLRACE_DATA_DIR=$scratch/data
# With keys and tokens, so that the checks of who may what find something to check.
export MILLRACE_WRITE_KEYS=test:schemathesis-writes MILLRACE_API_TOKEN=schemathesis-reads
ready_within_s=30
# shellcheck source=tests/platform.sh
. "$here/platform.sh"
trap 'stop KILL; rm -rf "$scratch"' EXIT

start
"$binary" simulate --write-key schemathesis-writes --users 100 --events 3000 --wait >"$scratch/simulate.log" 2>&1 ||
    { cat "$scratch/simulate.log" >&2; fail 2 "the simulation did not end well"; }

cat >"$scratch/schemathesis.toml" <<TOML
seed = $seed

[auth.openapi]
write_key = { username = "schemathesis-writes", password = "" }
write_key_token = { bearer = "schemathesis-writes" }
api_token = { bearer = "$MILLRACE_API_TOKEN" }
admin_token = { bearer = "$MILLRACE_ADMIN_TOKEN" }

# What is there to be asked for.
[parameters]
"path.topic" = "actions"
"path.write_key" = "schemathesis-writes"

# An event that lacks something or has a wrong type is answered with 200: it is counted, and kept in dead-letters.
[[operations]]
include-tag = "ingest"
checks.negative_data_rejection.enabled = false

# Of these no schema says all that makes them right: which cursors we gave, how many partitions there are, JSON that is packed into
# a parameter, who did it, which an attribute of a CloudEvent or its data says.
[[operations]]
include-path-regex = "^/v1/feeds/|^/v1/log/|cloudevents$"
include-name-regex = "^GET /(batch|capture|e|engage|i/v0/e|track)$"
checks.positive_data_acceptance.enabled = false

# Each query has parameters of its own, some required: /v1/queries lists them. One that is there and empty is as if it were not there.
[[operations]]
include-path = "/v1/queries/{name}"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false

# Would copy everything to whichever path the fuzzer thinks of.
[[operations]]
include-name = "POST /v1/admin/backup"
enabled = false
TOML

document=$scratch/openapi.json
python3 - "$MILLRACE_TO" "$MILLRACE_API_TOKEN" "$document" <<'PYTHON' || fail 2 "/openapi.json cannot be read"
import sys
import urllib.request

to, token, path = sys.argv[1:]
request = urllib.request.Request(to + "/openapi.json", headers={"Authorization": "Bearer " + token})
with urllib.request.urlopen(request, timeout=15) as answer, open(path, "wb") as file:
    file.write(answer.read())
PYTHON

# What it remembers between runs stays out of the tree, and does not change what it tries.
cd "$scratch"
code=0
# Every check, as long as none is named; naming them would take the settings above back.
"$cache/python/bin/st" --config-file schemathesis.toml run "$document" --url "$MILLRACE_TO" --phases examples,coverage,fuzzing \
    --max-examples "$examples" --continue-on-failure --no-color || code=$?
[ "$code" -eq 0 ] || fail 1 "the answers and the document differ, see above"
kill -0 "$server" 2>/dev/null || fail 1 "the server is gone"
