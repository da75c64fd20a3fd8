#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/pgo.sh
# build/pgo/tinyvlm, compiled with a profile of itself: describing the example photos, with each
# kind of arithmetic. GCC; the profile stays valid while the sources do.
set -euo pipefail
cd "$(dirname "$0")/.."
build() {
    cmake --preset pgo -DTVLM_PGO="$1" >/dev/null
    cmake --build build/pgo --clean-first --parallel "$(getconf _NPROCESSORS_ONLN)" --target tinyvlm-cli >/dev/null
}
find build/pgo -name '*.gcda' -delete 2>/dev/null || true
build generate
for precision in auto f32 int8; do
    build/pgo/tinyvlm describe --precision $precision --quiet examples/photos/*.jpg
done
build use
echo "built build/pgo/tinyvlm"
