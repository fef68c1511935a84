#!/usr/bin/env bash
# scripts/test_gpu.sh
# SPDX-License-Identifier: Apache-2.0
#
# The tests that need a GPU, on a machine that has one; CI has none and only compiles them. Ends with a summary for
# docs/gpu_results.md: device, driver, date, commit, counts.
#   scripts/test_gpu.sh                    builds build/cuda and runs everything
#   scripts/test_gpu.sh --minimal          the same with a compiler, CMake and CUDA alone (TING_MINIMAL); installs nothing
#   scripts/test_gpu.sh --built DIR        runs the test programs that lie in DIR
#   scripts/test_gpu.sh … --sanitize       under compute-sanitizer: memcheck, racecheck, initcheck (minutes)
# COMMIT names the commit where git cannot.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=build/cuda/tests  # where the build leaves its test programs
built=""                # or the folder that holds nothing but them
minimal=""
tools=("")
while [[ $# -gt 0 ]]; do
  case "$1" in
    --minimal) minimal=1; tests=build/minimal/tests; shift ;;
    --built) built=$2; shift 2 ;;
    --sanitize) tools=("compute-sanitizer --tool memcheck --error-exitcode 9 "
                       "compute-sanitizer --tool racecheck --error-exitcode 9 "
                       "compute-sanitizer --tool initcheck --error-exitcode 9 "); shift ;;
    *) sed -n '7,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

command -v nvidia-smi >/dev/null || { echo "test_gpu: no nvidia-smi: is there a GPU and its driver?" >&2; exit 1; }
if [[ -n $minimal ]]; then
  cmake -S . -B build/minimal -DCMAKE_BUILD_TYPE=Release -DTING_MINIMAL=ON -DTING_CUDA=ON >/dev/null
  cmake --build build/minimal -j "${JOBS:-$(nproc)}"
elif [[ -z $built ]]; then
  scripts/setup.sh --tests
  cmake -S . -B build/cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DTING_CUDA=ON >/dev/null
  cmake --build build/cuda -j "${JOBS:-$(nproc)}"
fi

# The kernels' own, and those of searches, features, traces and pools.
if [[ -n $built ]]; then
  programs=("$built"/*_test)
else
  mapfile -t programs < <(find "$tests" -type f -executable \( -path '*/kernels/cuda/*_test' -o -name '*_cuda_test' \) | sort)
fi

failed=0
summary=""
for program in "${programs[@]}"; do
  for tool in "${tools[@]}"; do
    log=$(mktemp)
    filter='-*Bench*'
    [[ -n $tool ]] && filter='-*Bench*:*Large*'
    # shellcheck disable=SC2086  # the tool is a command with its options
    if timeout "${TIMEOUT_S:-400}" $tool "$program" --gtest_brief=1 --gtest_filter="$filter" >"$log" 2>&1; then
      verdict=ok
    else
      verdict="FAILED ($?)"
      failed=1
      grep -v "^\[ *\(OK\|RUN\)" "$log" | head -40
    fi
    line=$(grep -E "^\[  PASSED|tests? ran|ERROR SUMMARY|RACECHECK SUMMARY" "$log" | tr '\n' ' ' | cut -c1-160)
    summary+="| $(basename "$program") | ${tool:+$(cut -d' ' -f3 <<<"$tool")} | $verdict | $line |"$'\n'
    rm -f "$log"
  done
done

echo "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1); $(date -u +%F); commit ${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}"
printf '| program | tool | result | counts |\n| --- | --- | --- | --- |\n%s' "$summary"
exit "$failed"
