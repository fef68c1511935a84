#!/usr/bin/env bash
# scripts/fuzz.sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the libFuzzer targets of tests/fuzz with clang, ASan and UBSan, and runs each for a bounded time.
#   scripts/fuzz.sh SECONDS [target...]     scripts/fuzz.sh 60 pickle yaml; without targets: all of them
# Fails if a target crashes, hangs, or needs more than 2 GiB; the input that did it stays in build-fuzz/found/.
# CXX (clang++), JOBS (2) and BUILD (build-fuzz) may be set. New inputs go to build-fuzz/corpus/, not to the sources.
set -euo pipefail

usage() {
  sed -n '6,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[[ $# -ge 1 && $1 =~ ^[0-9]+$ ]] || usage
seconds=$1
shift

root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build-fuzz}
all=$(sed -n 's/^ting_fuzz(\([a-z0-9_]*\) .*/\1/p' "$root/tests/fuzz/CMakeLists.txt")
targets=${*:-$all}
for target in $targets; do
  grep -qx "$target" <<<"$all" || { echo "fuzz: no target $target; there are:" $all >&2; exit 2; }
done

cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER="${CC:-clang}" \
  -DCMAKE_CXX_COMPILER="${CXX:-clang++}" -DTING_BUILD_FUZZERS=ON -DTING_BUILD_TESTS=OFF -DTING_WERROR=OFF \
  -DTING_SANITIZE=fuzzer-no-link,address,undefined >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
mv "$build.log" "$build/configure.log"
# shellcheck disable=SC2086  # a list of names
ninja -C "$build" -j "${JOBS:-2}" $(printf '%s_fuzz ' $targets)

mkdir -p "$build/found"
failed=0
summary=""
for target in $targets; do
  mkdir -p "$build/corpus/$target" "$root/tests/fuzz/corpus/$target"
  options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -max_len=65536
           -artifact_prefix="$build/found/$target-")
  [[ -f $root/tests/fuzz/$target.dict ]] && options+=(-dict="$root/tests/fuzz/$target.dict")
  log=$build/$target.log
  echo "== $target: $seconds s"
  status=0
  "$build/tests/fuzz/${target}_fuzz" "${options[@]}" "$build/corpus/$target" "$root/tests/fuzz/corpus/$target" \
    >"$log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -1)
  if [[ $status -eq 0 ]]; then
    summary+="ok      $target: ${runs:-0} runs, ${coverage:-cov: ?}"$'\n'
  else
    failed=1
    summary+="FAILED  $target: status $status, log $log"$'\n'
    tail -40 "$log" >&2
  fi
done
printf '%s' "$summary"
exit "$failed"
