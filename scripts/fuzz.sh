#!/usr/bin/env bash
# Fuzzes every decoder for SECONDS each (default 600), side by side: tests/fuzz/README.md. Arguments name single targets.
# Exit codes: 0 nothing found · 1 something was, its input is kept under the folder that is named · 2 could not run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

seconds=${FUZZ_SECONDS:-600}
found=${FUZZ_DIR:-$CARGO_TARGET_DIR/fuzz}
version=0.13.2
mapfile -t targets < <(sed -n '/^\[\[bin\]\]/,/^name/s/^name = "\(.*\)"/\1/p' tests/fuzz/targets/Cargo.toml)
[ $# -eq 0 ] || targets=("$@")

if ! cargo fuzz --version 2>/dev/null | grep -qF "$version"; then
    echo "fuzz: installing cargo-fuzz $version"
    cargo install --locked --quiet "cargo-fuzz@$version" || exit 2
fi
# Coverage is all that is asked of the compiler, which a stable one can do: a sanitizer of memory looks for what only unsafe
# code does, and there is none of ours.
export RUSTC_BOOTSTRAP=1
unset RUSTFLAGS
build=(--fuzz-dir tests/fuzz/targets --sanitizer none --target-dir "$found/target")
echo "fuzz: building ${targets[*]}"
cargo fuzz build "${build[@]}" || exit 2

declare -A running
trap 'kill "${running[@]}" 2>/dev/null || true' EXIT
for target in "${targets[@]}"; do
    mkdir -p "$found/corpus/$target" "$found/artifacts/$target"
    cargo fuzz run "${build[@]}" "$target" "$found/corpus/$target" "tests/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$found/artifacts/$target/" >"$found/$target.txt" 2>&1 &
    running[$target]=$!
done
echo "fuzz: ${#targets[@]} targets, $seconds s each; what they say is in $found/*.txt"
code=0
for target in "${targets[@]}"; do
    if wait "${running[$target]}"; then said=passed; else said=FAILED code=1; fi
    unset "running[$target]"
    printf 'fuzz: %s %s, %s inputs tried, %s kept for what they reach\n' "$target" "$said" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$found/$target.txt")" \
        "$(find "$found/corpus/$target" -type f | wc -l)"
    [ "$said" = passed ] || tail -n 30 "$found/$target.txt"
done
[ "$code" = 0 ] || echo "fuzz: the inputs are in $found/artifacts: mend it, then keep each under tests/fuzz/regressions/TARGET" >&2
exit "$code"
