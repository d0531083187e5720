# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: which version of each engine is installed and tested, and where programs go that no package
# of the system brings.

MILLRACE_ENGINES="${MILLRACE_ENGINES:-${HOME:-/tmp}/.cache/millrace-engines}"

# The first that has what we use; Debian's package decides which exactly.
REDIS_VERSION_MIN=7.0

# ClickHouse as a library; its first two numbers are those of the server.
CHDB_CORE_VERSION=26.9.0

# Apache Kafka, for Scala 2.13, which is the only one there is.
KAFKA_VERSION=4.3.1
