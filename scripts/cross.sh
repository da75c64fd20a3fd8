#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/cross.sh [TARGET...]
# Checks that library and command line tool compile, without warnings, for systems that are not at
# hand: zig's targets (`pip install -r tests/requirements-long.txt`), without the optional libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=("$@")
[ $# -gt 0 ] || targets=(aarch64-macos x86_64-macos x86_64-windows-gnu x86_64-freebsd
    x86_64-linux-musl aarch64-linux-musl arm-linux-musleabihf)
python=${TVLM_PYTHON:-build/venv/bin/python}
include=build/cross/include # these alone: the rest of this system's headers is not the target's
mkdir -p "$include"
for header in jansson.h jansson_config.h; do
    cp "$(pkg-config --variable=includedir jansson)/$header" "$include" 2>/dev/null ||
        cp "$(find /usr/include -name $header | head -1)" "$include"
done

sources() {
    find src -name '*.c'
    [[ $1 = *windows* ]] || find app -name '*.c' | grep -vE 'app/image/(jpeg|png|webp|gif|heif)[.]c'
}

check() {
    "$python" -m ziglang cc -target "$1" -std=c11 -ffp-contract=off -O1 -Wall -Wextra \
        -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes -Werror \
        -DTVLM_HAVE_JPEG=0 -DTVLM_HAVE_PNG=0 -DTVLM_HAVE_WEBP=0 -DTVLM_HAVE_EXIF=0 \
        -DTVLM_HAVE_GIF=0 -DTVLM_HAVE_HEIF=0 -DTVLM_HAVE_EDIT=0 \
        -Iinclude -Isrc -Iapp -I. -isystem "$include" -c "$2" -o "build/cross/$1-${2//\//_}.o"
}
export -f check
export python include

failed=0
for target in "${targets[@]}"; do
    if sources "$target" | xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} bash -c 'check "$@"' - "$target" {}; then
        echo "$target: compiles"
    else
        echo "$target: does not compile"
        failed=1
    fi
done
exit $failed
