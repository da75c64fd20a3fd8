#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/build_ios.sh                on a Mac: build/ios/TinyVLM.xcframework (device, simulator, Mac Catalyst)
#        scripts/build_ios.sh --headers DIR  elsewhere: the same static libraries, by clang and DIR, Apple's C headers
#                                            (build/cross/headers/ziglang/lib/libc/include/any-darwin-any), and checks them
# Swift packages need neither: they compile the sources (docs/MOBILE.md).
set -euo pipefail
cd "$(dirname "$0")/.."
headers=
[ "${1:-}" != --headers ] || headers=$(realpath "${2:?$(sed -n '4s/^# //p' "$0")}")
out=build/ios
os=15.0 # as Package.swift

# slice | SDK | platform that objects name | targets
slices="
ios|iphoneos|ios|arm64-apple-ios$os
simulator|iphonesimulator|iossimulator|arm64-apple-ios$os-simulator x86_64-apple-ios$os-simulator
catalyst|macosx|macCatalyst|arm64-apple-ios$os-macabi x86_64-apple-ios$os-macabi"

if [ -n "$headers" ]; then
    suffix=${LLVM_SUFFIX--19}
    export NM=llvm-nm$suffix
    compiler() { echo "clang$suffix -isystem $headers"; }
    libtool() { "llvm-libtool-darwin$suffix" "$@"; }
    lipo() { "llvm-lipo$suffix" "$@"; }
else
    [ "$(uname)" = Darwin ] || { sed -n '3,6s/^# //p' "$0"; exit 2; }
    compiler() { echo "xcrun --sdk $1 clang"; }
    libtool() { xcrun libtool "$@"; }
    lipo() { xcrun lipo "$@"; }
fi

# objects SDK TARGET: build/ios/TARGET/*.o
objects() {
    local cc
    cc=$(compiler "$1")
    rm -rf "${out:?}/$2"
    mkdir -p "$out/$2"
    find src -name '*.c' | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c '
        file=$3; $1 -target "$2" -std=c11 -O2 -fvisibility=hidden -ffp-contract=off -fno-math-errno -Wall -Werror -Iinclude -Isrc \
            -c "$file" -o "$4/$2/${file//\//_}.o"' - "$cc" "$2" {} "$out"
}

# strangers PLATFORM OBJECT...: those for another platform or system
strangers() {
    local platform=$1 object
    shift
    for object in "$@"; do
        llvm-objdump"$suffix" --macho --private-headers "$object" | awk -v platform="$platform" -v os="$os" '
            $1 == "platform" { ours = $2 == platform } $1 == "minos" { ours = ours && $2 == os } END { exit !ours }' ||
            echo "$object"
    done
}

sorted() { tr ' ' '\n' | sort | xargs; }

# check SLICE PLATFORM TARGET...: the objects, and the library that they became
check() {
    local slice=$1 platform=$2 target found archs=
    shift 2
    for target in "$@"; do
        archs+=" ${target%%-*}"
        found=$(strangers "$platform" "$out/$target"/*.o)
        [ -z "$found" ] || { echo "not for $platform: $found"; exit 1; }
        scripts/gates.sh --objects "$target" "$out/$target"/*.o
    done
    found=$(lipo -archs "$out/$slice/libtinyvlm.a" | sorted)
    [ "$found" = "$(sorted <<<"$archs")" ] || { echo "$slice: holds $found, not$archs"; exit 1; }
    [ -n "$(strangers macos "$out/$target"/src_base_status.c.o)" ] || { echo "a planted platform is not seen"; exit 1; }
}

frameworks=()
while IFS='|' read -r slice sdk platform targets; do
    [ -n "$slice" ] || continue
    libraries=()
    for target in $targets; do
        objects "$sdk" "$target"
        libtool -static -no_warning_for_no_symbols -o "$out/$target/libtinyvlm.a" "$out/$target"/*.o
        libraries+=("$out/$target/libtinyvlm.a")
    done
    mkdir -p "$out/$slice"
    lipo -create "${libraries[@]}" -output "$out/$slice/libtinyvlm.a"
    frameworks+=(-library "$out/$slice/libtinyvlm.a" -headers include)
    # shellcheck disable=SC2086 # words
    [ -z "$headers" ] || check "$slice" "$platform" $targets
    echo "$slice: $(lipo -archs "$out/$slice/libtinyvlm.a"), $(wc -c <"$out/$slice/libtinyvlm.a" | xargs) bytes"
done <<<"$slices"

if [ -z "$headers" ]; then
    rm -rf "$out/TinyVLM.xcframework"
    xcodebuild -create-xcframework "${frameworks[@]}" -output "$out/TinyVLM.xcframework"
fi
