#!/usr/bin/env bash
# Sends events with the real SDKs of Segment, RudderStack and PostHog to a running server and checks what arrived.
#
#   tests/sdk/run.sh [URL] [WRITE_KEY] [ADMIN_TOKEN]
#
# Each argument defaults to its variable: MILLRACE_TO, MILLRACE_WRITE_KEY, MILLRACE_ADMIN_TOKEN; MILLRACE_API_TOKEN too
# where reads need it. The SDKs are installed once into MILLRACE_CACHE (default ~/.cache/millrace-sdk).
# Exit codes: 0 all passed, 1 a check failed, 2 could not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export MILLRACE_TO=${1:-${MILLRACE_TO:-http://127.0.0.1:8080}}
export MILLRACE_WRITE_KEY=${2:-${MILLRACE_WRITE_KEY:-dev}}
export MILLRACE_ADMIN_TOKEN=${3:-${MILLRACE_ADMIN_TOKEN:-}}

python_sdks=(segment-analytics-python==2.4.0 rudder-sdk-python==2.1.9 posthog==7.91.1)
node_sdks=(@segment/analytics-node@3.1.0 @rudderstack/rudder-sdk-node@3.0.13 posthog-node@5.70.0)
cache=${MILLRACE_CACHE:-$HOME/.cache/millrace-sdk}

fail() {
    printf 'sdk: %s\n' "$*" >&2
    exit 2
}

# A mark is written last, so that an installation that was cut short is made again.
install_python() {
    local mark="$cache/python/${python_sdks[*]}.ok"
    [ -e "$mark" ] && return
    command -v python3 >/dev/null || fail "python3 is not there"
    echo "installing ${python_sdks[*]} into $cache/python"
    rm -rf "$cache/python"
    python3 -m venv "$cache/python" || fail "cannot make a Python environment: install the venv module"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check "${python_sdks[@]}" || fail "cannot install ${python_sdks[*]}"
    touch "$mark"
}

install_node() {
    local names=${node_sdks[*]}
    local mark="$cache/node/${names//\//_}.ok"
    [ -e "$mark" ] && return
    command -v npm >/dev/null || fail "node and npm are not there"
    echo "installing $names into $cache/node"
    rm -rf "$cache/node"
    mkdir -p "$cache/node"
    echo '{"name":"millrace-sdk-tests","private":true}' >"$cache/node/package.json"
    (cd "$cache/node" && npm install --silent --no-audit --no-fund "${node_sdks[@]}") || fail "cannot install $names"
    touch "$mark"
}

mkdir -p "$cache"
install_python
install_node

code=0
# The worse of two results: could not run before failed before passed.
note() { if [ "$1" -gt "$code" ]; then code=$1; fi; }
export PYTHONDONTWRITEBYTECODE=1 MILLRACE_SDK_DIR="$cache/node"
# RudderStack's SDKs have the calls of Segment's.
for sdk in segment rudder posthog; do
    export MILLRACE_SDK=$sdk
    script=${sdk/rudder/segment}
    "$cache/python/bin/python" "$here/${script}_python.py" || note $?
    node "$here/${script}_node.mjs" || note $?
done
exit "$code"
