#!/usr/bin/env bash
# scripts/demo.sh
# SPDX-License-Identifier: Apache-2.0
#
# From a fresh checkout to text: installs what is missing, builds the program, transcribes the six sample recordings
# with the shipped model, and shows what was said beside what was heard. It stays on the CPU, so the CUDA kernels, which
# take minutes to compile, are built only where there is a GPU to use them later.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cuda=OFF
if nvidia-smi -L >/dev/null 2>&1; then cuda=AUTO; fi
cmake --preset program -DTING_CUDA=$cuda
cmake --build --preset program
ting=build/program/tools/ting/ting

echo
echo "== ting transcribe -m models/tiny models/samples"
"$ting" transcribe -m models/tiny models/samples --format kaldi
echo
echo "== what was said (models/samples/samples.tsv)"
cut -f1,2 models/samples/samples.tsv | sort | tr '\t' ' '
echo
echo "== ting bench -m models/tiny --clips models/samples"
"$ting" bench -m models/tiny --clips models/samples
