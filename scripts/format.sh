#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/format.sh [--check]   formats all C files with the pinned clang-format.
# --check changes nothing and fails on differences; exit 77 when that version is not installed.
set -euo pipefail
cd "$(dirname "$0")/.."

pinned=$(sed -n 's/^clang-format==//p' tests/requirements.txt)
tool=build/venv/bin/clang-format
if ! "$tool" --version 2>/dev/null | grep -qF "version $pinned"; then
    echo "clang-format $pinned is not installed: scripts/deps.sh test"
    exit 77
fi
roots=()
for dir in include src app js/wasm tests/{unit,golden,kernels,fuzz,text} examples; do
    [ ! -d "$dir" ] || roots+=("$dir")
done
mode=(-i)
[ "${1:-}" != --check ] || mode=(--dry-run -Werror)
find "${roots[@]}" tests/*.h \( -name '*.c' -o -name '*.h' \) -print0 | xargs -0 -r "$tool" "${mode[@]}"
