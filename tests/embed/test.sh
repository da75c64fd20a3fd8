#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: tests/embed/test.sh WORK-DIR
# Builds the project of this folder with the library got in each way, and runs it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
rm -rf "${1:?usage: tests/embed/test.sh WORK-DIR}"
mkdir -p "$1"
cd "$1"
quietly() { "$@" >log 2>&1 || { cat log; echo "FAILED: $*"; exit 1; }; }

# -O0: the question is whether it builds and is found, and optimising takes most of the time
quietly cmake -S "$root" -B library -DTVLM_CLI=OFF -DCMAKE_INSTALL_PREFIX="$PWD/prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG=-O0
quietly cmake --build library --parallel 2
quietly cmake --install library
export PKG_CONFIG_PATH=$PWD/prefix/lib/pkgconfig
for use in add_subdirectory FetchContent find_package pkg-config; do
    quietly cmake -S "$here" -B "$use" -DUSE="$use" -DTINYVLM="$root" -DCMAKE_PREFIX_PATH="$PWD/prefix"
    quietly cmake --build "$use" --parallel 2
    printed=$("$use/outside" "$root/models/tinyvlm-25m.gguf")
    [ "$printed" = "0.1.0 tinyvlm" ] || { echo "$use: the program printed '$printed'"; exit 1; }
    echo "$use: ok"
done
