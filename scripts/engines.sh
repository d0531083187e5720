#!/usr/bin/env bash
# Installs what tests need to start real engines: Kafka, Redis, ClickHouse, MinIO, Postgres. Does nothing where they are.
# Exit codes: 0 all are there · 3 at least one cannot be had, said aloud: its tests skip themselves, except where CI is set.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/engines"

missing=()
for engine in redis kafka clickhouse minio postgres; do
    "./$engine.sh" || missing+=("$engine")
done
if [ ${#missing[@]} -gt 0 ]; then
    printf 'engines: %s cannot be had here, see above\n' "${missing[*]}" >&2
    exit 3
fi
echo "engines: Redis, Kafka, ClickHouse, MinIO and Postgres are there for tests"
