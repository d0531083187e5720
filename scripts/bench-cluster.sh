#!/usr/bin/env bash
# The figures of BENCHMARKS.md on Kafka, Redis, ClickHouse, Postgres and S3, which it installs and starts: each benchmark on
# engines of its own, so that none finds what another left.
#
# Variables: BENCH (which ones, and options of `millrace bench` after them), EVENTS.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh
. scripts/services.sh

# What is set for another Millrace is not for this one.
unset "${!MILLRACE_@}"

scratch=$(mktemp -d)
clean_up() {
    stop_services
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

names=() options=()
for word in ${BENCH:-ingest jobs visible feed archive queries window-count start partitions takeover}; do
    case $word in
    # The value of an option may stand apart from it.
    -*) options+=("$word") ;;
    *) if [ ${#options[@]} -gt 0 ]; then options+=("$word"); else names+=("$word"); fi ;;
    esac
done
if [ -n "${EVENTS:-}" ]; then options+=(--events "$EVENTS"); fi
for name in "${names[@]}"; do
    start_services "$scratch/services"
    "$CARGO_TARGET_DIR/release/millrace" bench "$name" ${options[@]+"${options[@]}"}
    stop_services
done
