#!/usr/bin/env bash
# bench/peers/gpu_compare.sh
# SPDX-License-Identifier: Apache-2.0
#
# Ting beside PyTorch fp16 on this machine's GPU, in one run: Ting, the peers, Ting again, and a table with ratios.
# Needs a Python with PyTorch (PYTHON names it) and takes about two minutes, most of it the peers' compiler.
#   gpu_compare.sh TING [BATCHES]     TING is the program, BATCHES such as 1,8,16,64
# Logs stay in OUT, if it is set.
set -euo pipefail

[[ $# -ge 1 ]] || { sed -n '5,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
ting=$1
batches=${2:-1,8,16,64}
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if [[ -n ${OUT:-} ]]; then logs=$OUT; else logs=$(mktemp -d); trap 'rm -rf "$logs"' EXIT; fi

bench() { "$ting" bench --random-weights aishell --stages "$batches" --device cuda --precision f16 >"$logs/$1"; }
peers() { "$python" "$here/peer_gpu.py" "$@" 2>>"$logs/peers.err" || { tail -20 "$logs/peers.err" >&2; return 1; }; }

peers --check --batches 2 --blocks 4 >"$logs/check.json"
bench ting_before.txt
peers --batches "$batches" >"$logs/peers.json"
bench ting_after.txt
"$python" "$here/gpu_table.py" "$logs/peers.json" "$logs/ting_before.txt" "$logs/ting_after.txt"
