#!/usr/bin/env bash
# Prints the path of a Python that has the outside readers of the tables (deltalake, duckdb, polars), installing them once
# into MILLRACE_CACHE (default ~/.cache/millrace-readers). Exit codes: 0 printed, 2 could not be had.
set -euo pipefail
readers=(deltalake==1.6.6 duckdb==2.0.0 polars==2.1.0 pyarrow)
cache=${MILLRACE_CACHE:-$HOME/.cache/millrace-readers}
# Written last, so that an installation that was cut short is made again.
mark="$cache/readers-${readers[0]}-${readers[1]}-${readers[2]}.ok"
if [ ! -e "$mark" ]; then
    echo "installing ${readers[*]} into $cache/readers" >&2
    mkdir -p "$cache"
    {
        python3 -m venv --clear "$cache/readers" &&
            "$cache/readers/bin/pip" install --quiet --disable-pip-version-check "${readers[@]}"
    } >&2 || {
        echo "readers: cannot install ${readers[*]}: python3 with venv and a package index are needed" >&2
        exit 2
    }
    touch "$mark"
fi
echo "$cache/readers/bin/python"
