#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/cross.sh [quick | TARGET...]
# Compiles the library, and where programs are run the command line tool without its optional
# libraries, for systems that are not at hand: clang with the headers that zig brings along
# (scripts/deps.sh test); for Android also what Java calls, with a JDK's jni.h. A warning is an error. Then gates.sh looks
# at the library's objects.
# quick: the library without its kernels, but ARM's, for one system of Windows and one of Apple's, without making code.
set -euo pipefail
cd "$(dirname "$0")/.."
cc=${CROSS_CC:-clang-19}
export NM=${NM:-llvm-nm}
shopt -s nullglob
headers=build/cross/headers/ziglang/lib/libc/include
[ -d "$headers" ] || { echo "cross: no $headers: scripts/deps.sh test"; exit 1; }

mode=
[ "${1:-}" != quick ] || mode=quick
if [ -n "$mode" ]; then
    targets=(x86_64-w64-mingw32 arm64-apple-ios15.0)
elif [ $# -gt 0 ]; then
    targets=("$@")
else
    targets=(x86_64-w64-mingw32 aarch64-w64-mingw32
        arm64-apple-macos11 x86_64-apple-macos10.15 arm64-apple-ios15.0 arm64-apple-ios15.0-simulator
        aarch64-linux-android26 armv7a-linux-androideabi26 x86_64-linux-android26
        x86_64-unknown-freebsd14 x86_64-linux-musl aarch64-linux-musl arm-linux-musleabihf i686-linux-musl)
fi
# jansson's header alone: this system's others are not the target's
mkdir -p build/cross/include
for header in jansson.h jansson_config.h; do
    [ -n "$mode" ] || cp "$(find /usr/include -name $header | head -1)" build/cross/include
done
off=
for library in JPEG PNG WEBP EXIF GIF HEIF EDIT ARCHIVE; do
    off+=" -DTVLM_HAVE_$library=0"
done

# Names of zig's folders for a target, the most particular first.
folders() {
    local arch=${1%%-*} zig
    case $arch in
    arm64) arch=aarch64 ;;
    armv7a) arch=arm ;;
    i686) arch=x86 ;;
    esac
    zig=${arch/x86_64/x86}
    case $1 in
    *mingw*) echo any-windows-any ;;
    *apple*) echo any-darwin-any ;;
    *freebsd*) echo "$arch-freebsd-none generic-freebsd" ;;
    *linux*) echo "$arch-linux-musl generic-musl $zig-linux-any any-linux-any" ;;
    esac
}

# compile TARGET OUTPUT SOURCE...: no OUTPUT, no code
compile() {
    local target=$1 output=$2 flags folder
    shift 2
    read -ra flags <<<"$off"
    for folder in $(folders "$target"); do
        flags+=(-isystem "$headers/$folder")
    done
    [[ $target != i686* ]] || flags+=(-msse2 -mfpmath=sse)
    [[ $target != armv7a*android* ]] || flags+=(-mfpu=neon-vfpv4)
    [[ $target != *android* ]] || flags+=(-isystem "$jdk/include" -isystem "$jdk/include/linux")
    if [ -n "$output" ]; then flags+=(-c -o "$output"); else flags+=(-fsyntax-only); fi
    "$cc" "--target=$target" -std=c11 -ffp-contract=off -fno-math-errno -O1 -Wall -Wextra -Wshadow -Wundef \
        -Wstrict-prototypes -Wmissing-prototypes -Werror -Iinclude -Isrc -Iapp -I. \
        -isystem build/cross/include "${flags[@]}" "$@"
}

sources() {
    if [ -n "$mode" ]; then find src -name '*.c' ! -path '*/kernels/[swx]*/*'; else find src -name '*.c'; fi
    [[ $1 != *android* ]] || echo bindings/android/tinyvlm/src/main/cpp/jni.c
    [[ -n $mode || $1 = *ios* ]] || find app -name '*.c' | grep -vE 'app/image/(jpeg|png|webp|gif|heif)[.]c'
}

# Is an object seen that breaks the rules? One that no gate could read would break none.
planted() {
    local target=$1 said
    echo 'int timespec_get(void *, int); double fma(double, double, double); double planted(double);
        double planted(double x) { return fma(x, x, timespec_get(0, 1)); }' >build/cross/planted.c
    compile "$target" "build/cross/$target/planted.o" build/cross/planted.c
    said=$(scripts/gates.sh --objects "$target" "build/cross/$target"/{src,bindings,planted}*.o) || true
    rm "build/cross/$target/planted.o"
    [[ $said = *FAILED*planted* ]] && { [[ $target != *android* ]] || [[ $said = *FAILED*timespec_get* ]]; } &&
        { [[ $target != arm-* ]] || [[ $said = *fma-calls*FAILED* ]]; }
}

build() {
    local target=$1
    if [ -n "$mode" ]; then
        sources "$target" | xargs -n 16 -P "$jobs" bash -c 'compile "$@"' - "$target" ''
        return
    fi
    rm -rf "build/cross/$target"
    mkdir -p "build/cross/$target"
    sources "$target" | xargs -P "$jobs" -I{} bash -c \
        'file=$2; compile "$1" "build/cross/$1/${file//\//_}.o" "$file"' - "$target" {} &&
        scripts/gates.sh --objects "$target" "build/cross/$target"/{src,bindings}_*.o &&
        { planted "$target" || { echo "a planted fault is not seen"; false; }; }
}

jobs=$(getconf _NPROCESSORS_ONLN)
jdk=${JAVA_HOME:-$(dirname "$(dirname "$(realpath "$(command -v javac || echo /)")")")} # has jni.h, for Android
export cc headers off jdk
export -f folders compile

failed=0
for target in "${targets[@]}"; do
    if build "$target"; then
        echo "$target: compiles"
    else
        echo "$target: FAILED"
        failed=1
    fi
done
exit $failed
