#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/wasm.sh [modules|tests]
#   modules   js/dist/tinyvlm-NAME.wasm, five of them (default)
#   tests     build/wasm/{test-kernels,tower}-NAME.wasm: the kernel tests, and checksums of the int8
#             tower's output, as WASI programs
# clang and wasm-ld alone: the clang driver would run an old wasm-opt that breaks relaxed SIMD.
set -euo pipefail
cd "$(dirname "$0")/.."

cc=${WASM_CC:-clang-19}
ld=${WASM_LD:-wasm-ld-19}
sysroot=/usr/lib/wasm32-wasi
builtins=$("$cc" --target=wasm32-wasi -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a
common=(--target=wasm32-wasi -std=c11 -O3 -ffp-contract=off -fno-math-errno -fvisibility=hidden
    -ffunction-sections -fdata-sections -mbulk-memory -msign-ext -mnontrapping-fptoint
    -Wall -Wextra -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes -Werror -Iinclude -Isrc)
simd128=(-msimd128)
relaxed=(-msimd128 -mrelaxed-simd)
threads=(-matomics -D_REENTRANT)

# compile OUT-DIR FLAGS -- SOURCES
compile() {
    local out=$1 flags=() source object
    shift
    while [ "$1" != -- ]; do flags+=("$1"); shift; done
    shift
    rm -rf "$out" # objects of sources that are gone
    mkdir -p "$out"
    for source in "$@"; do
        object=$out/${source//\//_}.o
        echo "$cc ${common[*]} ${flags[*]} -c $source -o $object"
    done | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c '{}'
}

# The core but for what only an operating system has.
core() { find src -name '*.c' ! -path 'src/os/*' | sort; }

module() {
    local name=$1 out=build/wasm/$1
    shift
    # --stack-first: a stack that overflows traps rather than overwriting data
    local link=(--no-entry --import-memory --max-memory=4294967296 --gc-sections --strip-all --stack-first
        -z stack-size=1048576 --initial-memory=4194304 --export=__stack_pointer)
    [[ $name != *threads ]] || link+=(--shared-memory --no-check-features --export=__wasm_init_tls --export=__tls_size
        --export=__tls_align)
    compile "$out" "$@" -DNDEBUG -isystem js/wasm -- $(core) js/wasm/*.c
    mkdir -p js/dist
    "$ld" "${link[@]}" -L"$sysroot" "$out"/*.o -lc "$builtins" -o "js/dist/tinyvlm-$name.wasm"
    chmod -x "js/dist/tinyvlm-$name.wasm"
}

# program NAME CORE-DIR SOURCES -- FLAGS
program() {
    local name=$1 core=$2 sources=() out=build/wasm/$1.o
    shift 2
    while [ "$1" != -- ]; do sources+=("$1"); shift; done
    shift
    compile "$out" "$@" -- "${sources[@]}"
    "$ld" --gc-sections -z stack-size=1048576 -L"$sysroot" "$sysroot/crt1-command.o" "$out"/*.o "$core"/*.o -lc -lm \
        "$builtins" -o "build/wasm/$name.wasm"
}

programs() {
    local name=$1 core=build/wasm/core-$1.o
    shift
    set -- "$@" -D_GNU_SOURCE -isystem js/wasm
    compile "$core" "$@" -- $(core) src/os/posix.c js/wasm/threads.c
    program "test-kernels-$name" "$core" tests/kernels/*.c -- "$@"
    program "tower-$name" "$core" tests/js/tower.c -- "$@"
}

case ${1:-modules} in
modules)
    module scalar
    module simd128 "${simd128[@]}"
    module simd128-threads "${simd128[@]}" "${threads[@]}"
    module relaxed "${relaxed[@]}"
    module relaxed-threads "${relaxed[@]}" "${threads[@]}"
    ;;
tests)
    programs scalar
    programs simd128 "${simd128[@]}"
    programs relaxed "${relaxed[@]}"
    ;;
*)
    sed -n '3,7s/^# //p' "$0"
    exit 2
    ;;
esac
