#!/bin/sh
# bench/peers/setup.sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes a virtual environment with the peers' pinned releases: setup.sh [DIR], by default .venv beside this file.
# PyTorch is left out on purpose: its wheel brings a GPU stack of gigabytes, and it was the slowest peer by a factor
# of three wherever it was measured.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-"$here/.venv"}
"${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
echo "peers: PyTorch is not installed (its wheel brings the GPU stack; it is far from the fastest peer)"
echo "peers: ready, run $venv/bin/python $here/peer_cpu.py --help"
