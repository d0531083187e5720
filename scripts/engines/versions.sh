# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: which version of each engine is installed and tested.

# The first that has what we use; Debian's package decides which exactly.
REDIS_VERSION_MIN=7.0
