#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/cross_test.sh [windows | aarch64 | armhf | musl | counts]...
# Links library, shared library and command line tool (without its optional libraries) for other
# systems and runs the unit tests, and where memory can be guarded the kernels': Windows under
# wine64 (MinGW), 64-bit and 32-bit ARM under qemu and x86-64, these with musl and static (zig).
# counts: the instructions of an answer on AArch64 (bench/arm). On Debian 12, with wine64,
# gcc-mingw-w64-x86-64, qemu-user-static, llvm-19, and tests/requirements-long.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
. scripts/cross_lib.sh
model=models/tinyvlm-25m.gguf
[ $# -gt 0 ] || set -- windows aarch64 armhf musl counts

# build SYSTEM PROCESSOR EMULATOR CMAKE-ARGUMENT...
build() {
    local system=$1 processor=$2 emulator=$3
    shift 3
    fetch cmocka jansson
    build_cmocka
    build_jansson
    export PKG_CONFIG_LIBDIR=$out/prefix/lib/pkgconfig PKG_CONFIG_PATH=
    quietly cmake -S . -B "$out/build" -DCMAKE_SYSTEM_NAME="$system" -DCMAKE_SYSTEM_PROCESSOR="$processor" \
        -DCMAKE_C_COMPILER="$cc" -DCMAKE_CROSSCOMPILING_EMULATOR="$emulator" -DCMAKE_BUILD_TYPE=Release \
        -DTVLM_TESTS=ON -DTVLM_WERROR=ON -DTVLM_PYTHON=none "$@"
    quietly cmake --build "$out/build" --parallel "$jobs" --target portable-tests tinyvlm-cli
    # the faults are told in the words of glibc
    (cd "$out/build" && ctest --output-on-failure --no-tests=error -j "$jobs" -R "$tests" -L 'fast|quick' -E "faults|$slow")
    says_the_same "$emulator"
}

# What the tool for this machine says.
says_the_same() {
    local image=tests/data/golden/image_100x150.ppm other=$out/build/tinyvlm
    [ -e "$other" ] || other=$other.exe
    build/tinyvlm describe "$image" --model $model >"$out/here"
    $1 "$other" describe "$image" --model $model | diff "$out/here" -
    echo "describes an image as the tool for this machine: $(cat "$out/here")"
}

# A sample of the shapes, as kernels are slow when emulated, on processors with fewer and more tiers.
on_processors() {
    local cpu
    for cpu in "$@"; do
        QEMU_CPU=$cpu quietly "$qemu" "$out/build/tests/test-kernels" --every 40
        echo "kernels on $cpu: $(tail -1 "$out/log")"
    done
}

# Debian 13's qemu, which has newer processors: 71 MB once. False where it is not to be had.
newer_qemu() {
    local folder=$sources/trixie
    qemu=$folder/usr/bin/qemu-aarch64
    [ ! -x "$qemu" ] || return 0
    debian trixie deb
    "${apt[@]}" update >"$out/log" 2>&1 && (cd "$folder" && "${apt[@]}" download qemu-user >"$out/log" 2>&1) &&
        dpkg-deb --fsys-tarfile "$folder"/qemu-user_*.deb | tar xC "$folder" ./usr/bin/qemu-aarch64
}

# Swift packages cannot pass -ffp-contract=off. Clang would fuse then, if the sources did not forbid it.
without_the_flag() {
    # shellcheck disable=SC2046 # words
    quietly "$cc" -std=c11 -O2 -DNDEBUG -Iinclude -Isrc $(find src -name '*.c') tests/js/tower.c -o "$out/tower"
    quietly cmake --build "$out/build" --parallel "$jobs" --target tower
    "$qemu" "$out/build/tests/tower" <$model >"$out/with"
    "$qemu" "$out/tower" <$model | diff "$out/with" -
    echo "the same tower without -ffp-contract=off: $(tail -1 "$out/with")"
}

# Names that the system's code page lacks: of an image, a model, a folder, and of what is written.
with_names() {
    local tool=../build/tinyvlm.exe image='фото-ä-日本.ppm' folder='Ordner ü'
    rm -rf "$out/names"
    mkdir -p "$out/names/$folder"
    cp tests/data/golden/image_100x150.ppm "$out/names/$image"
    cp $model "$out/names/модель.gguf"
    touch "$out/names/$folder/Config.json"
    cd "$out/names"
    TINYVLM_MODEL=модель.gguf "$wine" $tool describe "$image" >said
    "$root/build/tinyvlm" describe "$image" --model модель.gguf | diff - said
    "$wine" $tool quantize модель.gguf klein-ñ.gguf --type q4_0 -q
    [ -e klein-ñ.gguf ]
    "$wine" $tool info klein-ñ.gguf >said
    "$wine" $tool convert "$folder" x.gguf >said 2>&1 || true
    grep -F "$folder: 'Config.json' in it must be named 'config.json'" said
    cd "$root"
    echo "opens, lists and writes names that no code page has"
}

# A program that is linked with the DLL, as tests/embed has it.
with_dll() {
    quietly cmake --build "$out/build" --parallel "$jobs" --target tinyvlm-shared
    quietly "$cc" -DTVLM_SHARED -Iinclude tests/embed/src/main.c "$out/build/libtinyvlm.dll.a" -o "$out/build/outside.exe"
    [[ $("$wine" "$out/build/outside.exe" "$model") = *" tinyvlm"* ]] || { echo "a program with the DLL fails"; exit 1; }
}

# Instructions of an answer, by the tier of ARM's kernels, beside the committed counts.
count_instructions() {
    quietly cmake -S . -B "$out/build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_C_COMPILER="$cc" -DCMAKE_BUILD_TYPE=Release -DTVLM_CLI=OFF
    quietly cmake --build "$out/build" --parallel "$jobs" --target tinyvlm
    quietly "$cc" -std=c11 -O2 -Wall -Wextra -Werror -static -Iinclude bench/arm/answer.c "$out/build/libtinyvlm.a" \
        -o "$out/answer"
    build/venv/bin/python bench/arm/check.py "$out/answer" ${UPDATE:+--update}
}

for target in "$@"; do
    tests='^test_|^test-kernels-quick$' slow=none
    out=$root/build/cross/run-$target
    mkdir -p "$out"
    case $target in
    windows)
        cc=x86_64-w64-mingw32-gcc ar=x86_64-w64-mingw32-ar own_types=
        build Windows x86_64 "$wine" -DTVLM_SHARED=ON -DCMAKE_EXE_LINKER_FLAGS=-static
        with_dll
        with_names
        ;;
    aarch64)
        zig aarch64-linux-musl
        qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)
        tests='^test_'
        build Linux aarch64 "$qemu" -DCMAKE_EXE_LINKER_FLAGS=-static
        on_processors cortex-a53 cortex-a76 max
        without_the_flag
        if newer_qemu; then
            on_processors cortex-a710 neoverse-v1
        else
            echo "skipped: kernels on cortex-a710 and neoverse-v1, as Debian 13's qemu-user is not to be had"
        fi
        ;;
    armhf) # without VFPv4, so without fused multiply-adds
        zig arm-linux-musleabihf -mcpu=cortex_a9
        qemu=$(command -v qemu-arm || command -v qemu-arm-static)
        tests='^test_' slow='quantize|tokenizer|preprocess' # 47 minutes of work, emulated
        export QEMU_CPU=cortex-a9
        build Linux arm "$qemu" -DCMAKE_EXE_LINKER_FLAGS=-static
        on_processors cortex-a9
        unset QEMU_CPU
        ;;
    musl)
        zig x86_64-linux-musl
        build Linux x86_64 "" -DCMAKE_EXE_LINKER_FLAGS=-static
        ;;
    counts)
        zig aarch64-linux-musl
        count_instructions
        ;;
    esac
    echo "$target: ok"
done
