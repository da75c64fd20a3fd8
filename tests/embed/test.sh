#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: tests/embed/test.sh WORK-DIR
# Compiles the README's example in C. Builds the project of this folder with the library got in each way, and runs it.
# add_subdirectory and FetchContent, which compile the library once more each, are only configured, but with LONG=1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
rm -rf "${1:?usage: tests/embed/test.sh WORK-DIR}"
mkdir -p "$1"
cd "$1"
quietly() { "$@" >log 2>&1 || { cat log; echo "FAILED: $*"; exit 1; }; }

# configure USE ARGUMENT...
configure() {
    local use=$1
    shift
    quietly cmake -S "$here" -B "$use$*" -DUSE="$use" -DTINYVLM="$root" -DCMAKE_PREFIX_PATH="$PWD/moved" "$@"
}

# try USE ARGUMENT...: the programs, with the library got in that way
try() {
    local use=$1 program printed
    configure "$@"
    shift
    quietly cmake --build "$use$*" --parallel 2
    for program in outside outside-cpp; do
        printed=$("$use$*/$program" "$root/models/tinyvlm-25m.gguf")
        [ "$printed" = "$version tinyvlm" ] || { echo "$use $*: $program printed '$printed'"; exit 1; }
        needs "$use$*/$program" >needs
        case $* in
        *SHARED*) grep -qF -e "[libtinyvlm.so.$interface]" -e "libtinyvlm.$interface.dylib" needs ;;
        *) ! grep -q 'libtinyvlm' needs ;;
        esac || { echo "$use $*: $program needs another library:"; cat needs; exit 1; }
    done
    echo "$use $*: ok"
}

needs() { readelf -d "$1" 2>/dev/null || otool -L "$1"; }

version=$(sed -n 's/^#define TVLM_VERSION_[A-Z]* //p' "$root/include/tinyvlm.h" | paste -sd.)
case $version in
0.*) interface=${version%.*} ;; # a minor version may have another
*) interface=${version%%.*} ;;
esac
# -O0: the question is whether it builds and is found, and optimising takes most of the time
quietly cmake -S "$root" -B library -DTVLM_CLI=OFF -DTVLM_SHARED=ON -DCMAKE_INSTALL_PREFIX="$PWD/prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-O0
quietly cmake --build library --parallel 2
quietly cmake --install library
mv prefix moved # what is installed finds itself
[ -e moved/include/module.modulemap ] || { echo "no module map is installed"; exit 1; }
export PKG_CONFIG_PATH=$PWD/moved/lib/pkgconfig
examples=$("$root/tests/docs/examples.sh" "$root/README.md" c "$root/tests/docs/example.c" docs)
quietly "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -fsyntax-only -Imoved/include $examples
[ "$(pkg-config --modversion tinyvlm)" = "$version" ] || { echo "pkg-config has another version"; exit 1; }
inside=configure
[ -z "${LONG:-}" ] || inside=try
$inside add_subdirectory
$inside FetchContent
try find_package
try find_package -DBUILD_SHARED_LIBS=ON
# a linker that is left the choice takes the shared library
export LD_LIBRARY_PATH=$PWD/moved/lib
try pkg-config -DLINKED=SHARED
rm moved/lib/libtinyvlm.so*
try pkg-config
