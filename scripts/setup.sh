#!/usr/bin/env bash
# scripts/setup.sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs what a build needs and is not there, from the distribution (Debian 12, Ubuntu 24.04). docs/dependencies.md
# says what each package is for.
#   scripts/setup.sh            to build and run the program
#   scripts/setup.sh --tests    to build and run the tests too
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config ccache libfmt-dev libsndfile1-dev libsoxr-dev libyaml-cpp-dev
          nlohmann-json3-dev libcli11-dev libxxhash-dev)
case "${1:-}" in
  "") ;;
  --tests) packages+=(libgtest-dev libgmock-dev libzip-dev python3 git) ;;
  *) sed -n '6,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

installed() { [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

command -v dpkg-query >/dev/null || {
  echo "setup: this is not Debian or Ubuntu; install the equivalents of: ${packages[*]}" >&2
  exit 1
}
missing=()
for package in "${packages[@]}"; do installed "$package" || missing+=("$package"); done
if [[ ${#missing[@]} -eq 0 ]]; then
  echo "setup: all ${#packages[@]} packages are there"
  exit 0
fi

sudo=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "setup: as root, run: apt-get install ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${sudo[@]}" apt-get update -q
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
