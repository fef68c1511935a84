#!/usr/bin/env bash
# scripts/test_gpu.sh
# SPDX-License-Identifier: Apache-2.0
#
# The tests that need a GPU, on a machine that has one; CI has none and only compiles them. Ends with a summary for
# docs/gpu_results.md: device, driver, date, commit, counts.
#   scripts/test_gpu.sh                    builds build/cuda and runs everything
#   scripts/test_gpu.sh --minimal          the same with a compiler, CMake and CUDA alone (TING_MINIMAL); installs nothing
#   scripts/test_gpu.sh --built DIR        runs the test programs that lie in DIR
#   scripts/test_gpu.sh … --sanitize TOOL  under compute-sanitizer's memcheck, racecheck or initcheck: each test by
#                                          itself, JOBS at once, of many cases alike one in EVERY (41), TIMEOUT_S (500);
#                                          for racecheck, what DIR holds needs -DTING_RACECHECK=ON
# COMMIT names the commit where git cannot.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/cuda        # what the script builds
built=""                # or the folder that holds nothing but test programs
minimal=""
tool=""
while [[ $# -gt 0 ]]; do
  case "$1" in
    --minimal) minimal=1; build=build/minimal; shift ;;
    --built) built=$2; shift 2 ;;
    --sanitize) tool=${2:?--sanitize needs a tool: memcheck, racecheck or initcheck}; shift 2 ;;
    *) sed -n '7,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

options=(-DCMAKE_BUILD_TYPE=Release -DTING_CUDA=ON)
if [[ $tool == racecheck ]]; then
  build=$build-racecheck
  options+=(-DTING_RACECHECK=ON)
fi
command -v nvidia-smi >/dev/null || { echo "test_gpu: no nvidia-smi: is there a GPU and its driver?" >&2; exit 1; }
if [[ -n $minimal ]]; then
  cmake -S . -B "$build" "${options[@]}" -DTING_MINIMAL=ON >/dev/null
  cmake --build "$build" -j "${JOBS:-$(nproc)}"
elif [[ -z $built ]]; then
  scripts/setup.sh --tests
  cmake -S . -B "$build" -G Ninja "${options[@]}" >/dev/null
  cmake --build "$build" -j "${JOBS:-$(nproc)}"
fi

# The kernels' own, and those of searches, features, traces and pools.
if [[ -n $built ]]; then
  programs=("$built"/*_test)
else
  mapfile -t programs < <(find "$build/tests" -type f -executable \( -path '*/kernels/cuda/*_test' -o -name '*_cuda_test' \) | sort)
fi

export tool logs
logs=$(mktemp -d)
# run PROGRAM TEST: tests of that name; their log, and "ok" or "FAILED" beside it.
run() {
  local log command=("$1")
  log=$logs/$(basename "$1").$(tr -c 'A-Za-z0-9\n' _ <<<"$2")
  if [[ -n $tool ]]; then
    command=(compute-sanitizer --tool "$tool" --error-exitcode 9 "$1")
    export TING_TEST_EVERY=${EVERY:-41}
  fi
  if timeout -k 5 "${TIMEOUT_S:-500}" "${command[@]}" --gtest_brief=1 --gtest_filter="$2" >"$log" 2>&1; then
    echo ok >"$log.verdict"
  else
    echo "FAILED ($?)" >"$log.verdict"
  fi
}
export -f run
# "PROGRAM TEST" lines: a sanitizer gets each test in a process of its own, and no benchmarks.
list() {
  for program in "${programs[@]}"; do
    if [[ -z $tool ]]; then
      echo "$program -*Bench*"
    else
      "$program" --gtest_list_tests --gtest_filter='-*Bench*' |
        awk -v program="$program" '/^[^ ].*\./ { suite = $1 } /^ / { print program, suite $1 }'
    fi
  done
}
side_by_side=1
[[ -n $tool ]] && side_by_side=${JOBS:-$(nproc)}
list | xargs -P "$side_by_side" -L 1 bash -c 'run "$@"' run

failed=0
summary=""
for log in "$logs"/*.verdict; do
  verdict=$(cat "$log")
  log=${log%.verdict}
  # A sanitizer's word for a test that has nothing to do with a GPU; the test itself may have passed or not.
  if grep -q "before first instrumented API call" "$log" && ! grep -q "FAILED" "$log"; then verdict=ok; fi
  if [[ $verdict != ok ]]; then
    failed=1
    echo "== $(basename "$log")"
    grep -v "^\[ *\(OK\|RUN\)" "$log" | head -40
  fi
  line=$(grep -E "^\[  PASSED|tests? ran|ERROR SUMMARY|RACECHECK SUMMARY" "$log" | tr '\n' ' ' | cut -c1-160 || true)
  if [[ -z $tool ]]; then
    summary+="| $(basename "$log" .__Bench_) | $verdict | $line |"$'\n'
  elif [[ $verdict != ok ]]; then
    summary+="| $(basename "$log") | $verdict | $line |"$'\n'
  fi
  echo "$verdict" >"$log.verdict"
done
for program in ${tool:+"${programs[@]##*/}"}; do
  verdicts=("$logs/$program".*.verdict)
  num_ok=$(cat "${verdicts[@]}" | grep -c '^ok$' || true)
  summary+="| $program | $num_ok of ${#verdicts[@]} tests ok | |"$'\n'
done
rm -rf "$logs"

echo "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1); $(date -u +%F); commit ${COMMIT:-$(git rev-parse --short HEAD 2>/dev/null || echo unknown)}${tool:+; $tool}"
printf '| program | result | counts |\n| --- | --- | --- |\n%s' "$summary"
exit "$failed"
