#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/arm_test.sh BUILD-DIR
# The part of `make test` for 64-bit ARM: builds the kernels' tests, the int8 tower's checksums, the golden ids and the
# example in BUILD-DIR/arm with GCC and runs them under qemu. What the last three say must be what BUILD-DIR's own say, and
# the ids, in float32, the reference's. Then ARM's kernels as clang makes them. Exit 77 where the cross compiler or qemu is missing. `scripts/cross_test.sh aarch64` is more.
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
quietly cmake --build "$arm" --parallel 2 --target test-kernels tower golden-ids golden-plan example-basic

# sample CPU TIER PROGRAM: of the kernels' shapes
sample() { QEMU_CPU=$1 quietly "$qemu" "$3" --cpu "$2" --every 17; }

# kernels CPU TIER: of the tier, and that it is the best which this CPU has
kernels() {
    sample "$1" "$2" "$arm/tests/test-kernels"
    [[ $(QEMU_CPU=$1 "$qemu" "$arm/tests/tower" <"$model" | tail -1) = "$2 $checksums" ]] ||
        { echo "FAILED: the tower on $1 is not $2 $checksums"; exit 1; }
    golden "$1"
    echo "kernels, tower and golden ids on $1: as on this machine, tier $2"
}

# golden CPU: of small FastVLM and SmolVLM models those of the reference; in int8, those of this machine
golden() {
    local family
    for family in tiny_128 smolvlm; do
        QEMU_CPU=$1 quietly "$qemu" "$arm/tests/golden-ids" "$arm/$family.gguf" $picture tests/data/golden/golden_$family.safetensors
    done
    QEMU_CPU=$1 quietly "$qemu" "$arm/tests/golden-ids" "$arm/tiny_128.gguf" $picture
    "$build/tests/golden-ids" "$arm/tiny_128.gguf" $picture | diff - "$arm/log"
}

# Whether golden() can fail: the last of the reference's ids is made another one.
wrong_id_is_seen() {
    local file=$arm/wrong.safetensors end said=0
    cp tests/data/golden/golden_tiny_128.safetensors "$file"
    end=$(grep -aoPm1 '"generated_ids":{[^}]*,\K[0-9]+(?=])' "$file")
    printf '\377' | dd of="$file" bs=1 seek=$((8 + $(od -An -tu8 -N8 "$file") + end - 8)) conv=notrunc status=none
    QEMU_CPU=max "$qemu" "$arm/tests/golden-ids" "$arm/tiny_128.gguf" $picture "$file" >"$arm/log" 2>&1 || said=$?
    if [ $said != 1 ] || ! grep "^golden-ids: id 23 is [0-9]*, in $file 255$" "$arm/log"; then
        cat "$arm/log"
        echo "FAILED: a planted wrong id is not seen"
        exit 1
    fi
    echo "a planted wrong id is seen"
}

# As phones have them; without -ffp-contract=off, which Swift packages cannot say, so the sources forbid fusing.
clang_kernels() {
    rm -rf "$arm/clang"
    mkdir "$arm/clang"
    export arm
    # shellcheck disable=SC2016 # for the inner shell
    printf '%s\n' src/kernels/arm/*.c | quietly xargs -P 2 -I{} sh -c 'clang --target=aarch64-linux-gnu -std=c11 -O2 \
        -fno-math-errno -Wall -Wextra -Werror -Isrc -Iinclude -c {} -o "$arm/clang/$(basename {}).o"'
    quietly $cc -static "$arm"/tests/CMakeFiles/test-kernels.dir/kernels/*.o "$arm"/clang/*.o "$arm/libtinyvlm.a" -lm -pthread \
        -o "$arm/clang/test-kernels"
    sample max i8mm "$arm/clang/test-kernels"
    sample max bf16 "$arm/clang/test-kernels"
    echo "kernels by $(clang --version | head -1): as GCC's scalar ones"
}

model=models/tinyvlm-25m.gguf
picture=tests/data/golden/image_100x150.ppm
quietly "$build/tinyvlm" convert tests/data/golden/tiny "$arm/tiny_128.gguf" --type f32
quietly "$build/tinyvlm" convert tests/data/golden/smolvlm "$arm/smolvlm.gguf" --type f32
checksums=$("$build/tests/tower" <$model | tail -1 | cut -d' ' -f2-)
wrong_id_is_seen
kernels cortex-a53 neon
kernels cortex-a76 dotprod
kernels max bf16
sample max i8mm "$arm/tests/test-kernels"
echo "kernels of i8mm on max: as the scalar ones"

question=($model $picture 'What is in the picture?')
QEMU_CPU=max quietly "$qemu" "$arm/example-basic" "${question[@]}"
diff <(sed '$d' "$arm/log") <("$build/example-basic" "${question[@]}" | sed '$d') # the last line tells the time
echo "the example on max: as on this machine"

plan=$("$qemu" "$arm/tests/golden-plan" $model) # qemu's own memory hides the rest
[ "$plan" -lt 60000000 ] || { echo "FAILED: the bundled model takes $plan bytes"; exit 1; }
echo "the bundled model: a plan of $plan bytes, under 60 MB"
clang_kernels
