#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Usage: scripts/test_coreml.sh [PYTEST-ARGUMENT...]
# tools/coreml against the program and the shared library of build/coreml/lib, in a Python environment of its own
# (build/coreml/venv: PyTorch and coremltools, once).
set -euo pipefail
cd "$(dirname "$0")/.."
work=build/coreml
venv=$work/venv
mkdir -p "$work"

cat tools/coreml/requirements.txt train/requirements.txt <(grep -E '^(pytest|safetensors)==' tests/requirements.txt) >"$work/wanted.txt"
if ! cmp -s "$work/wanted.txt" "$venv/installed.txt"; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tools/coreml/requirements.txt \
        -r <(grep -E '^(pytest|safetensors)==' tests/requirements.txt)
    cp "$work/wanted.txt" "$venv/installed.txt"
fi
cmake -S . -B "$work/lib" -DTVLM_SHARED=ON -DTVLM_CLI=ON -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$work/lib" --parallel "$(getconf _NPROCESSORS_ONLN)" --target tinyvlm-shared tinyvlm-cli >/dev/null
library=$(find "$work/lib" -maxdepth 1 -name 'libtinyvlm.so' -o -maxdepth 1 -name 'libtinyvlm.dylib')
TVLM_BIN=$PWD/$work/lib/tinyvlm TVLM_LIBRARY=$PWD/$library "$venv/bin/python" -m pytest -q -p no:cacheprovider \
    -W 'ignore::DeprecationWarning' tests/coreml "$@"
