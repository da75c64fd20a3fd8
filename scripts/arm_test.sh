#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/arm_test.sh BUILD-DIR
# The part of `make test` for 64-bit ARM: builds the kernels' tests, the int8 tower's checksums and the example in
# BUILD-DIR/arm and runs them under qemu. What the last two say must be what BUILD-DIR's own say. Exit 77 where the
# cross compiler or qemu is missing. `scripts/cross_test.sh aarch64` runs all of it.
set -euo pipefail
build=$(cd "${1:?usage: scripts/arm_test.sh BUILD-DIR}" && pwd)
cd "$(dirname "$0")/.."
cc=aarch64-linux-gnu-gcc
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || { echo "skipped: no qemu-aarch64-static"; exit 77; }
command -v $cc >/dev/null || { echo "skipped: no $cc"; exit 77; }
arm=$build/arm
mkdir -p "$arm"

quietly() { "$@" >"$arm/log" 2>&1 || { cat "$arm/log"; echo "FAILED: $*"; exit 1; }; }

quietly cmake -S . -B "$arm" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=$cc \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXE_LINKER_FLAGS=-static -DTVLM_CLI=OFF -DTVLM_TESTS=ON -DTVLM_WERROR=ON
quietly cmake --build "$arm" --parallel 2 --target test-kernels tower example-basic

# kernels CPU TIER: of the tier, and that it is the best which this CPU has
kernels() {
    QEMU_CPU=$1 quietly "$qemu" "$arm/tests/test-kernels" --cpu "$2" --every 11
    [[ $(QEMU_CPU=$1 "$qemu" "$arm/tests/tower" <"$model" | tail -1) = "$2 $checksums" ]] ||
        { echo "FAILED: the tower on $1 is not $2 $checksums"; exit 1; }
    echo "kernels and tower on $1: as on this machine, tier $2"
}

model=models/tinyvlm-25m.gguf
checksums=$("$build/tests/tower" <$model | tail -1 | cut -d' ' -f2-)
kernels cortex-a53 neon
kernels cortex-a76 dotprod
kernels max i8mm

question=($model tests/data/golden/image_100x150.ppm 'What is in the picture?')
QEMU_CPU=max quietly "$qemu" "$arm/example-basic" "${question[@]}"
diff <(sed '$d' "$arm/log") <("$build/example-basic" "${question[@]}" | sed '$d') # the last line tells the time
echo "the example on max: as on this machine"
