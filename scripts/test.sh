#!/usr/bin/env bash
# scripts/test.sh
# SPDX-License-Identifier: Apache-2.0
#
# Everything that a change must pass, the quick checks first; the release tests come last, so that ctest's summary ends
# the output. Any failure ends the run.
#   scripts/test.sh              all
#   scripts/test.sh --release    only the release build and its tests
# JOBS (all cores), FUZZ_SECONDS a target (5; 0: no fuzzing) may be set. TING_SHARED names the folder of large models
# and recordings; without it the tests that need it skip and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${JOBS:-$(nproc)}

case "${1:-}" in
  "" | --release) ;;
  *) sed -n '8,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

step() { printf '\n== %s (%d s so far)\n' "$1" "$SECONDS"; }

# A model under ASan takes minutes for a whole evaluation set, and its memory accesses are the same as for a few clips:
# the sanitizer run goes without the large material, also where CI demands it of the release run.
sanitizer_tests() {
  env -u CI TING_SHARED=/nonexistent ctest --preset cpu-debug -j "$jobs"
}

scripts/setup.sh --tests
if [[ ${1:-} != --release ]]; then
  step "layering"
  scripts/check_includes.py --test
  scripts/check_includes.py

  step "sanitizer build"
  cmake --preset cpu-debug >/dev/null
  cmake --build --preset cpu-debug -j "$jobs"
  step "sanitizer tests"
  sanitizer_tests

  if command -v clang++ >/dev/null && [[ ${FUZZ_SECONDS:-5} -gt 0 ]]; then
    step "fuzzing"
    JOBS=$jobs BUILD=build/fuzz scripts/fuzz.sh "${FUZZ_SECONDS:-5}"
  elif [[ ${CI:-} == true ]]; then
    echo "test: CI must fuzz, and clang++ is not installed" >&2
    exit 1
  else
    step "fuzzing is left out: clang++ is not installed, or FUZZ_SECONDS is 0"
  fi
fi

if [[ ${1:-} != --release ]]; then
  step "minimal build, which shares most objects with the next one"
  cmake --preset minimal -DTING_CUDA=OFF >/dev/null
  cmake --build --preset minimal -j "$jobs"
  ctest --preset minimal

  step "the program alone, for which several files of a library are compiled as one"
  cmake --preset program -B build/program-unity -DTING_CUDA=OFF >/dev/null
  cmake --build build/program-unity -j "$jobs"
fi

step "release build"
cmake --preset cpu-release >/dev/null
cmake --build --preset cpu-release -j "$jobs"
step "release tests"
ctest --preset cpu-release -j "$jobs"
