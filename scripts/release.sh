#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/release.sh [--check] [TARGET...]
# Makes what a release offers, from the last commit, in build/release/dist: for linux-x86_64, linux-aarch64, windows-x86_64,
# macos-arm64 and macos-x86_64 an archive of the command line tool with the bundled model, and its bill of materials; the npm
# package (npm); SHA256SUMS. Archives that run here are tried beside build/tinyvlm. --check makes all of it twice, in
# different folders: every byte must be the same. On Debian 12, with what scripts/deps.sh release installs.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=${RELEASE_WORK:-$root/build/release}
python=$root/build/venv/bin/python
all=(linux-x86_64 linux-aarch64 windows-x86_64 macos-arm64 macos-x86_64 npm)
libraries=(jansson libjpeg-turbo libspng zlib libwebp giflib libexif)
out=$work
. scripts/cross_lib.sh
commit=${RELEASE_COMMIT:-$(git rev-parse HEAD)}
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct "$commit")
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^#define TVLM_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' include/tinyvlm.h | paste -sd.)

# ---- building ----

# The commit, for what it says and nothing else, as it would be cloned.
export_commit() {
    rm -rf "$work/source" "$work/dist"
    mkdir -p "$work/source" "$work/dist"
    git archive "$commit" | tar xm -C "$work/source"
    git diff --quiet "$commit" || echo "note: the last commit is released, without the changes since"
}

# compile ZIG-TARGET SYSTEM PROCESSOR LINK-FLAGS: the program, in $out/build
compile() {
    cflags="-ffile-prefix-map=$sources=. -ffile-prefix-map=$work=."
    zig "$1"
    toolchain "$2" "$3"
    build_jansson
    build_libjpeg_turbo
    build_libspng
    build_libwebp
    build_giflib
    build_libexif
    quietly cmake -S "$work/source" -B "$out/build" -DCMAKE_TOOLCHAIN_FILE="$out/toolchain.cmake" \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXE_LINKER_FLAGS="-s $4"
    quietly cmake --build "$out/build" --parallel "$jobs" --target tinyvlm-cli
}

# What of a licence a source package has, and Debian's account of it.
licences() {
    local name file
    for name in "${libraries[@]}"; do
        mkdir -p "$1/$name"
        for file in "$sources/$name"/{LICENSE*,COPYING*,PATENTS,README.ijg,debian/copyright}; do
            [ ! -f "$file" ] || cp "$file" "$1/$name"
        done
    done
    mkdir -p "$1/zig"
    "$python" scripts/sbom.py runtime "$target" | while read -r name file; do
        cp "$file" "$1/zig/$name"
    done
}

gather() { # FOLDER
    mkdir "$1"
    cp "$out/build/$program" "$1"
    cp "$work"/source/{README.md,LICENSE,NOTICE,models/tinyvlm-25m.{gguf,md},models/MODEL_CARD.md} "$1"
    licences "$1/licences"
    "$python" scripts/sbom.py write "$target" "$version" "$commit" "$1" >"$1/sbom.cdx.json"
    cp "$1/sbom.cdx.json" "$work/dist/$name.cdx.json"
    chmod -R u=rwX,go=rX "$1"
    find "$1" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
}

pack() {
    cd "$out"
    if [[ $target = windows-* ]]; then
        find "$name" | sort | TZ=UTC zip -q -X -9 -@ "$work/dist/$name.zip"
    else
        tar --sort=name --format=ustar --owner=0 --group=0 --numeric-owner -cf - "$name" | gzip -n9 >"$work/dist/$name.tar.gz"
    fi
    cd "$root"
}

npm_package() {
    out=$work/npm
    mkdir -p "$out"
    (cd "$work/source" && quietly scripts/wasm.sh modules && quietly npm pack --silent --pack-destination "$out" ./js)
    mv "$out/tinyvlm-$version.tgz" "$work/dist/tinyvlm-$version-npm.tgz"
}

release() {
    target=$1
    name=tinyvlm-$version-$target
    out=$work/$target
    program=tinyvlm
    [ "$target" != npm ] || { npm_package; return; }
    rm -rf "$out"
    mkdir -p "$out"
    case $target in
    linux-x86_64) compile x86_64-linux-musl Linux x86_64 -static ;;
    linux-aarch64) compile aarch64-linux-musl Linux aarch64 -static ;;
    windows-x86_64)
        program=tinyvlm.exe
        compile x86_64-windows-gnu Windows x86_64 -static
        ;;
    macos-arm64) compile aarch64-macos.11.0 Darwin arm64 "" ;;
    macos-x86_64) compile x86_64-macos.11.0 Darwin x86_64 "" ;;
    *) echo "no target $target: ${all[*]}"; exit 2 ;;
    esac
    gather "$out/$name"
    pack
}

# libexif's licence (LGPL 2.1) asks for its source beside what is linked with it.
sources_of_libexif() {
    listed libexif | while read -r _ file; do cp "$sources/$file" "$work/dist"; done
}

# ---- trying ----

# Photos in each format, which the native program says the answers of.
photos() {
    photos=$work/photos
    rm -rf "$photos"
    mkdir -p "$photos"
    cp examples/photos/{dandelion,motorcycle}.jpg "$photos"
    "$python" -c '
import sys
from PIL import Image
photo = Image.open("examples/photos/motorcycle.jpg")
for kind in "png", "webp", "gif":
    photo.save(f"{sys.argv[1]}/photo.{kind}")
turned = Image.Exif()
turned[0x112] = 6
photo.rotate(90, expand=True).save(f"{sys.argv[1]}/turned.jpg", exif=turned)' "$photos"
}

# says NAME COMMAND...: the command prints what is expected
says() {
    local what=$1 wanted=$2 said status=0
    shift 2
    said=$("$@" 2>errors) || status=$?
    [ $status = 0 ] || { cat errors; echo "FAILED: $name: $what ends with $status"; exit 1; }
    [ "$said" = "$wanted" ] || { echo "FAILED: $name: $what: '$said', not '$wanted'"; exit 1; }
}

# try TARGET EMULATOR...: its archive, unpacked in an empty folder. In int8, as --precision auto differs by processor.
try() {
    local folder photo wanted program
    name=tinyvlm-$version-$1
    shift
    folder=$(mktemp -d)
    cd "$folder"
    if [ -e "$work/dist/$name.zip" ]; then
        unzip -q "$work/dist/$name.zip"
        program=("$@" "$name/tinyvlm.exe")
    else
        tar xf "$work/dist/$name.tar.gz"
        program=("$@" "$name/tinyvlm")
    fi
    says --version "tinyvlm $version" bash -c '"$@" --version | head -1' - "${program[@]}"
    says "its libraries" "built with    JPEG, PNG, WebP, GIF, EXIF" bash -c '"$@" --version | grep "^built with "' - "${program[@]}"
    for photo in "$photos"/*; do
        wanted=$("$root/build/tinyvlm" describe "$photo" --precision int8 2>errors)
        says "describe ${photo##*/}" "$wanted" "${program[@]}" describe "$photo" --precision int8
        says "describe - <${photo##*/}" "$wanted" bash -c '"$@" describe - --precision int8 <"$0"' "$photo" "${program[@]}"
    done
    cd "$root"
    rm -rf "$folder"
    echo "$name: describes what build/tinyvlm does: $(ls "$photos" | paste -sd' ')"
}

try_all() {
    local target
    photos
    for target in "$@"; do
        case $target in
        linux-x86_64) try "$target" ;;
        linux-aarch64) try "$target" "$(command -v qemu-aarch64 || command -v qemu-aarch64-static)" ;;
        windows-x86_64) try "$target" "$wine" ;;
        esac
    done
}

# ---- all of it ----

make_all() {
    export_commit
    fetch "${libraries[@]}"
    local target
    for target in "$@"; do
        release "$target"
        echo "$target: made"
    done
    out=$work
    sources_of_libexif
    (cd "$work/dist" && sha256sum -- * >"$work/sums" && mv "$work/sums" SHA256SUMS)
}

same_twice() {
    local folder
    for folder in build/release-check/a build/release-check/another-folder; do
        rm -rf "$folder"
        RELEASE_WORK=$root/$folder RELEASE_COMMIT=$commit ZIG_GLOBAL_CACHE_DIR=$root/$folder/zig scripts/release.sh "$@"
    done
    diff -u build/release-check/{a,another-folder}/dist/SHA256SUMS || { echo "FAILED: two builds differ"; exit 1; }
    echo "two builds, in different folders, are the same to the last byte"
}

check=
[ "${1:-}" != --check ] || { check=yes; shift; }
[ $# -gt 0 ] || set -- "${all[@]}"
if [ -n "$check" ]; then
    same_twice "$@"
else
    make_all "$@"
    try_all "$@"
    ls -l "$work/dist"
fi
