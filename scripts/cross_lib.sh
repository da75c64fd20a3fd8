# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# For cross_test.sh and release.sh, which set root and, per target, out: zig's compiler for a target, and libraries from
# Debian's source packages, whose SHA-256 cross_sources.txt has.
: "${root:?}"
sources=$root/build/cross/sources
jobs=$(getconf _NPROCESSORS_ONLN)
wine=$(command -v wine64 || echo /usr/lib/wine/wine64)
export LC_ALL=C.UTF-8 WINEDEBUG=-all WINEPREFIX=$root/build/cross/wine

quietly() { "$@" >"$out/log" 2>&1 || { cat "$out/log"; echo "FAILED: $*"; exit 1; }; }

# ---- Debian's packages ----

# debian SUITE TYPE: the array apt becomes an apt-get that sees this suite alone, its deb or deb-src
debian() {
    local folder=$sources/$1
    mkdir -p "$folder/parts" "$folder/lists/partial"
    printf '%s\n' "Types: $2" 'URIs: http://deb.debian.org/debian' "Suites: $1" 'Components: main' \
        'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >"$folder/parts/debian.sources"
    apt=(apt-get -q -o Acquire::Retries=3 -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$folder/parts"
        -o "Dir::State::Lists=$folder/lists")
}

listed() { grep -E "^[0-9a-f]{64}  $1_" "$root/scripts/cross_sources.txt"; }

is_right() { (cd "$sources" && listed "$1" | sha256sum --quiet --check) >/dev/null 2>&1; }

download() {
    debian bookworm deb-src
    quietly "${apt[@]}" update
    (cd "$sources" && quietly "${apt[@]}" --download-only source "$@")
}

# fetch NAME...: unpacked with Debian's patches in $sources/NAME
fetch() {
    local name dsc missing=()
    for name in "$@"; do
        is_right "$name" || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] || download "${missing[@]}"
    for name in "$@"; do
        is_right "$name" || { echo "FAILED: Debian's $name is not that of scripts/cross_sources.txt"; exit 1; }
        dsc=$(listed "$name" | grep -oE "$name"'_.*[.]dsc$')
        if [ ! -d "$sources/${dsc%.dsc}" ]; then
            rm -rf "$sources/new"
            (cd "$sources" && quietly dpkg-source --no-check --no-copy -x "$dsc" new && mv new "${dsc%.dsc}")
        fi
        ln -sfn "${dsc%.dsc}" "$sources/$name"
    done
}

# ---- a compiler and libraries for a target: cc, ar, cflags, own_types ----

# zig TARGET FLAG...: its tools, as one command each
zig() {
    local tool folder
    folder=$("$root/build/venv/bin/python" -c 'import os, ziglang; print(os.path.dirname(ziglang.__file__))')
    mkdir -p "$out"
    for tool in "cc -target $*" ar ranlib; do
        printf '#!/bin/sh\nexec "%s/zig" %s "$@"\n' "$folder" "$tool" >"$out/${tool%% *}"
        chmod +x "$out/${tool%% *}"
    done
    cc=$out/cc ar=$out/ar
    own_types=-D_UINTPTR_T_DEFINED # by musl, which cmocka does not know
}

headers() { # FOLDER FILE...: below the prefix's include
    local folder=$out/prefix/include/$1
    shift
    mkdir -p "$folder"
    cp "$@" "$folder"
}

# package NAME FLAGS OWN-FLAGS FILE...: a static library of C files, and a .pc file that gives its users FLAGS
package() {
    local name=$1 flags=$2 own=$3
    shift 3
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name" "$out/prefix/lib/pkgconfig"
    # shellcheck disable=SC2086 # words
    (cd "$out/$name" && printf '%s\n' "$@" |
        quietly xargs -P "$jobs" -n 1 "$cc" -O2 ${cflags:-} -DNDEBUG -w -c $flags $own -I"$out/prefix/include")
    rm -f "$out/prefix/lib/lib$name.a"
    quietly "$ar" rcs "$out/prefix/lib/lib$name.a" "$out/$name"/*.o*
    printf 'Name: %s\nDescription: %s\nVersion: 0\nCflags: %s -I%s\nLibs: -L%s -l%s\n' "$name" "$name" \
        "$flags" "$out/prefix/include" "$out/prefix/lib" "$name" >"$out/prefix/lib/pkgconfig/$name.pc"
}

build_cmocka() {
    headers . "$sources"/cmocka/include/*.h
    package cmocka "$own_types" "-DHAVE_INTTYPES_H -DHAVE_SIGNAL_H -DHAVE_STRINGS_H -DHAVE_STRUCT_TIMESPEC
        -DHAVE_GCC_THREAD_LOCAL_STORAGE" "$sources"/cmocka/src/*.c
}

build_jansson() {
    headers . "$sources"/jansson/src/jansson.h "$sources"/jansson/android/jansson_config.h
    touch "$out/prefix/include/jansson_private_config.h" # its answers are the flags
    package jansson "" "-DHAVE_STDINT_H -DINITIAL_HASHTABLE_ORDER=3" "$sources"/jansson/src/*.c
}

# ---- the image libraries ----

# toolchain SYSTEM PROCESSOR: CMake's file for the target, which takes libraries from the prefix alone
toolchain() {
    cat >"$out/toolchain.cmake" <<END
set(CMAKE_SYSTEM_NAME $1)
set(CMAKE_SYSTEM_PROCESSOR $2)
set(CMAKE_C_COMPILER "$out/cc")
set(CMAKE_AR "$out/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "$out/ranlib" CACHE FILEPATH "")
set(CMAKE_RC_COMPILER true) # there are no resources
set(CMAKE_INSTALL_NAME_TOOL true) # nor shared libraries
set(CMAKE_C_FLAGS_INIT "${cflags:-}")
set(CMAKE_FIND_ROOT_PATH "$out/prefix")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
END
    export PKG_CONFIG_LIBDIR=$out/prefix/lib/pkgconfig PKG_CONFIG_PATH=
}

# By its own CMake files, for its assembler (nasm). BUILD would be the date.
build_libjpeg_turbo() {
    quietly cmake -S "$sources/libjpeg-turbo" -B "$out/libjpeg-turbo" -DCMAKE_TOOLCHAIN_FILE="$out/toolchain.cmake" \
        -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$out/prefix" -DCMAKE_INSTALL_LIBDIR=lib -DBUILD=debian \
        -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=OFF -DREQUIRE_SIMD=ON
    quietly cmake --build "$out/libjpeg-turbo" --parallel "$jobs" --target jpeg-static
    headers . "$sources"/libjpeg-turbo/{jpeglib,jmorecfg,jerror}.h "$out/libjpeg-turbo/jconfig.h"
    cp "$out/libjpeg-turbo/libjpeg.a" "$out/prefix/lib"
    cp "$out/libjpeg-turbo/pkgscripts/libjpeg.pc" "$out/prefix/lib/pkgconfig"
}

build_libspng() {
    local z=$sources/zlib
    headers . "$z"/{zlib,zconf}.h "$sources/libspng/spng/spng.h"
    # -D: macOS has it, though this version thinks not
    package zlib "" -Dfdopen=fdopen "$z"/{adler32,compress,crc32,deflate,infback,inffast,inflate,inftrees,trees,uncompr,zutil}.c
    package spng -DSPNG_STATIC "" "$sources/libspng/spng/spng.c"
}

build_libwebp() {
    local src=$sources/libwebp/src
    headers webp "$src"/webp/*.h
    package libwebp "" "-I$sources/libwebp" "$src"/{dec,dsp,utils}/*.c
    package libwebpdemux "" "-I$sources/libwebp" "$src"/demux/*.c
}

build_giflib() {
    headers . "$sources/giflib/gif_lib.h"
    package gif "" "" "$sources"/giflib/{dgif_lib,gifalloc,gif_err,gif_hash,openbsd-reallocarray}.c
}

build_libexif() {
    headers libexif "$sources"/libexif/libexif/*.h
    touch "$out/prefix/include/config.h" # no translations
    echo '#include <stdint.h>' >"$out/prefix/include/libexif/_stdint.h"
    package libexif "" "-I$sources/libexif -DGETTEXT_PACKAGE=0" "$sources"/libexif/libexif/{.,*}/*.c
}
