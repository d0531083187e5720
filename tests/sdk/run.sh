#!/usr/bin/env bash
# Sends events with the real SDKs of Segment, RudderStack, PostHog and CloudEvents to a running server and checks what arrived;
# those for browsers do so in Chromium.
#
#   tests/sdk/run.sh [URL] [WRITE_KEY] [ADMIN_TOKEN]
#
# Each argument defaults to its variable: MILLRACE_TO, MILLRACE_WRITE_KEY, MILLRACE_ADMIN_TOKEN; MILLRACE_API_TOKEN too
# where reads need it. The SDKs are installed once into MILLRACE_CACHE (default ~/.cache/millrace-sdk), Chromium from the packages
# of the system; where it cannot be had that part is skipped, aloud, except where CI is set.
# Exit codes: 0 all passed, 1 a check failed, 2 could not run.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

export MILLRACE_TO=${1:-${MILLRACE_TO:-http://127.0.0.1:8080}}
export MILLRACE_WRITE_KEY=${2:-${MILLRACE_WRITE_KEY:-dev}}
export MILLRACE_ADMIN_TOKEN=${3:-${MILLRACE_ADMIN_TOKEN:-}}

python_sdks=(segment-analytics-python==2.4.0 rudder-sdk-python==2.1.9 posthog==7.91.1 cloudevents==2.2.0 requests==2.34.2)
node_sdks=(@segment/analytics-node@3.1.0 @rudderstack/rudder-sdk-node@3.0.13 posthog-node@5.70.0 cloudevents@10.0.0)
browser_sdks=(@segment/analytics-next@1.84.3 posthog-js@1.449.2 playwright-core@1.65.1)
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

# install_node FOLDER PACKAGE…
install_node() {
    local to="$cache/$1" names=${*:2}
    local mark="$to/${names//\//_}.ok"
    [ -e "$mark" ] && return
    command -v npm >/dev/null || fail "node and npm are not there"
    echo "installing $names into $to"
    rm -rf "$to"
    mkdir -p "$to"
    echo '{"name":"millrace-sdk-tests","private":true}' >"$to/package.json"
    (cd "$to" && npm install --silent --no-audit --no-fund "${@:2}") || fail "cannot install $names"
    touch "$mark"
}

said=$(mktemp -d)
clients=()
trap 'if [ ${#clients[@]} -gt 0 ]; then kill "${clients[@]}" 2>/dev/null || true; fi; rm -rf "$said"' EXIT

# Runs a command beside the others: clients wait more than they compute. What it says is kept until the end.
begin() {
    "$@" >"$said/${#clients[@]}" 2>&1 &
    clients+=($!)
}

mkdir -p "$cache"
install_python
install_node node "${node_sdks[@]}"
if MILLRACE_CHROMIUM=$("$here/browser/chromium.sh"); then
    export MILLRACE_CHROMIUM
    install_node browser "${browser_sdks[@]}"
elif [ -n "${CI:-}" ]; then
    fail "no Chromium, and where CI is set the SDKs for browsers are not left out"
else
    MILLRACE_CHROMIUM=
    echo "sdk: SKIPPED the SDKs for browsers: no Chromium, see above"
fi

export PYTHONDONTWRITEBYTECODE=1
if [ -n "$MILLRACE_CHROMIUM" ]; then
    begin env MILLRACE_SDK_DIR="$cache/browser" node "$here/browser/browser.mjs"
fi
# RudderStack's SDKs have the calls of Segment's; those of PostHog speak two protocols.
for sdk in segment rudder posthog posthog-v1 cloudevents; do
    script=${sdk/rudder/segment} protocol=v0
    if [ "$sdk" = posthog-v1 ]; then script=posthog protocol=v1; fi
    own=(env MILLRACE_SDK="$sdk" MILLRACE_SDK_DIR="$cache/node" POSTHOG_CAPTURE_MODE="$protocol")
    begin "${own[@]}" "$cache/python/bin/python" "$here/${script}_python.py"
    begin "${own[@]}" node "$here/${script}_node.mjs"
done

# The worst of the results: could not run before failed before passed.
code=0
for client in "${!clients[@]}"; do
    result=0
    wait "${clients[$client]}" || result=$?
    cat "$said/$client"
    if [ "$result" -gt "$code" ]; then code=$result; fi
done
clients=()
exit "$code"
