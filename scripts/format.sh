#!/usr/bin/env bash
# scripts/format.sh
# SPDX-License-Identifier: Apache-2.0
#
# Formats all C++ of the repository with clang-format 14; another version formats differently, so it is refused.
#   scripts/format.sh            formats
#   scripts/format.sh --check    only lists the files that would change, and fails if there are any
set -euo pipefail
cd "$(dirname "$0")/.."

format=""
for candidate in clang-format-14 clang-format; do
  if command -v "$candidate" >/dev/null && "$candidate" --version | grep -q 'version 14\.'; then
    format=$candidate
    break
  fi
done
[[ -n $format ]] || { echo "format: clang-format 14 is not installed (apt-get install clang-format-14)" >&2; exit 1; }

mapfile -t files < <(find include src tools tests bench -name .venv -prune -o \( -name '*.h' -o -name '*.cc' \) -print | sort)
case "${1:-}" in
  "") "$format" -i "${files[@]}" ;;
  --check)
    changed=()
    for file in "${files[@]}"; do "$format" --dry-run -Werror "$file" 2>/dev/null || changed+=("$file"); done
    [[ ${#changed[@]} -eq 0 ]] && { echo "format: ${#files[@]} files are formatted"; exit 0; }
    printf 'format: %s would change; run scripts/format.sh\n' "${changed[@]}" >&2
    exit 1
    ;;
  *) sed -n '6,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
