#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: tests/abi/test.sh LIBTINYVLM.a WORK-DIR   (CC, CXX: compilers beside clang and clang++)
# Programs compiled against version 0.1's header run with today's shared library; the layout is the
# same; the header is clean for every compiler, and a module for clang.
# Until 0.1 is released, the header may still change: cp include/tinyvlm.h tests/abi/0.1, run this,
# and cp WORK-DIR/layout.txt tests/abi/0.1/layout-lp64.txt.
set -euo pipefail
library=$(realpath "${1:?usage: tests/abi/test.sh LIBTINYVLM.a WORK-DIR}")
work=${2:?usage: tests/abi/test.sh LIBTINYVLM.a WORK-DIR}
cd "$(dirname "$0")/../.."
cc=${CC:-cc}
cxx=${CXX:-c++}
abi=tests/abi
strict=(-Wall -Wextra -pedantic -Werror)
mkdir -p "$work"

"$cc" -shared -o "$work/libtinyvlm.so" -Wl,--whole-archive "$library" -Wl,--no-whole-archive -lm -pthread
link=("-L$work" -ltinyvlm "-Wl,-rpath,$(realpath "$work")")
"$cc" -std=c11 "${strict[@]}" -I$abi/0.1 $abi/program.c "${link[@]}" -o "$work/program-c"
"$cxx" -std=c++11 "${strict[@]}" -I$abi/0.1 -x c++ $abi/program.c -x none "${link[@]}" -o "$work/program-cpp"
for program in program-c program-cpp; do
    "$work/$program" models/tinyvlm-25m.gguf
done

python3 $abi/layout.py $abi/0.1/tinyvlm.h include/tinyvlm.h >"$work/layout.c"
for headers in $abi/0.1 include; do
    "$cc" -std=c11 "-I$headers" "$work/layout.c" -o "$work/layout"
    "$work/layout" >"$work/layout.txt"
    if [ "$(getconf LONG_BIT)" = 64 ]; then
        diff $abi/0.1/layout-lp64.txt "$work/layout.txt"
    fi
done
echo "layout: ok"

echo '#include <tinyvlm.h>' >"$work/alone.c"
clean() { "$@" "${strict[@]}" -Iinclude -fsyntax-only "$work/alone.c"; }
clean "$cc" -std=c11
clean "$cxx" -std=c++11 -x c++
clean clang -std=c11 -Wnullability-completeness
clean clang++ -std=c++11 -x c++ -Wnullability-completeness
exported() { "$cc" -std=c11 -D_WIN32 -DTVLM_SHARED "$@" -Iinclude -E "$work/alone.c" | grep -o 'dll[a-z]*port' | sort -u; }
[ "$(exported)" = dllimport ] && [ "$(exported -DTVLM_BUILD)" = dllexport ]
echo '@import tinyvlm; int major(void) { return TVLM_VERSION_MAJOR + (int)tvlm_version_number(); }' >"$work/module.m"
clang -fsyntax-only -x objective-c -fmodules "-fmodules-cache-path=$(realpath "$work")/modules" "${strict[@]}" \
    -Wno-missing-prototypes -Iinclude "$work/module.m"
echo "header and module: ok"
