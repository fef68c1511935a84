#!/usr/bin/env bash
# scripts/check_commits.sh
# SPDX-License-Identifier: Apache-2.0
#
# Checks that commit subjects read "scope: imperative sentence", at most 72 characters, without a full stop. A scope is
# a folder, or several with commas. Merges are left out.
#   scripts/check_commits.sh [RANGE]     e.g. origin/main..HEAD; without it: every commit
set -euo pipefail
cd "$(dirname "$0")/.."

git rev-parse --git-dir >/dev/null 2>&1 || { echo "commits: not a git checkout, nothing to check"; exit 0; }
failed=0
total=0
while IFS= read -r line; do
  [[ -n $line ]] || continue
  hash=${line%% *}
  subject=${line#* }
  total=$((total + 1))
  reason=""
  if [[ ! $subject =~ ^[a-z0-9_./]+(,\ ?[a-z0-9_./]+)*:\ [^\ ] ]]; then
    reason="is not \"scope: sentence\""
  elif [[ ${#subject} -gt 72 ]]; then
    reason="has ${#subject} characters, more than 72"
  elif [[ $subject == *. ]]; then
    reason="ends in a full stop"
  fi
  if [[ -n $reason ]]; then
    echo "commit $hash $reason: $subject"
    failed=1
  fi
done < <(git log --no-merges --format='%h %s' "${1:-HEAD}"; echo)
[[ $failed -eq 0 ]] && echo "commits: $total subjects are well formed"
exit "$failed"
