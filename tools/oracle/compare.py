#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the tensors that two safetensors files share: relative L2 error, or the ids that differ.

    python3 tools/oracle/compare.py REFERENCE MINE        (needs numpy, safetensors)
"""
import sys

import numpy as np
from safetensors.numpy import load_file


def main():
    want, have = load_file(sys.argv[1]), load_file(sys.argv[2])
    for name in sorted(set(want) & set(have)):
        a, b = want[name].astype(np.float64), have[name].astype(np.float64)
        if a.shape != b.shape:
            print(f"{name:16} shapes {a.shape} and {b.shape}")
        elif name.endswith("_ids"):
            print(f"{name:16} {int((a != b).sum())} of {a.size} ids differ")
        else:
            norm = np.linalg.norm(a)
            print(f"{name:16} relative L2 error {np.linalg.norm(a - b) / (norm or 1):.2e}, "
                  f"largest |x| {np.abs(a).max():.3g}")


main()
