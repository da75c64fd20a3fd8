#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/preprocess/pillow.safetensors: pictures and what Pillow makes of them.

    python3 tools/oracle/make_preprocess.py [OUT]        (needs numpy, pillow < 13, safetensors)

Tensors `in.FIT.FILTER.N` u8 [h][w][c] and `out.FIT.FILTER.N` u8 [S][S][3], S = 40. Pictures are
seeded noise over gradients: noise shows every coefficient, edges show the clamping.

Pillow 13 swaps the two passes where height shrinks much more than width (python-pillow/Pillow
pull request 9549), which changes roundings; the engine keeps the order that the models' reference
implementations were made with.
"""
import sys

import numpy as np
import PIL
from PIL import Image
from safetensors.numpy import save_file

S = 40
FILTERS = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}
PAD = (7, 0, 255)
# h, w, channels: down and up, both axes apart, one-pixel sides, long strips, exact size
SHAPES = [(97, 61, 3), (33, 120, 3), (17, 11, 4), (S, S, 3), (1, 1, 3), (1, 300, 1), (300, 1, 3),
          (40, 90, 1), (64, 40, 3)]


def picture(rng, h, w, c):
    y, x = np.mgrid[0:h, 0:w]
    base = np.stack([(x * 7 + y * 3 + 90 * k) % 256 for k in range(c)], -1)
    noise = rng.integers(0, 256, (h, w, c))
    return np.where(rng.random((h, w, 1)) < 0.5, base, noise).astype(np.uint8)


def to_rgb(a):
    """As the engine reads pixels: grey repeated, alpha dropped."""
    return np.ascontiguousarray(np.repeat(a, 3, 2) if a.shape[2] == 1 else a[:, :, :3])


def squash(image, f):
    return image.resize((S, S), f)


def pad(image, f):
    n = max(image.size)
    canvas = Image.new("RGB", (n, n), PAD)
    canvas.paste(image, ((n - image.width) // 2, (n - image.height) // 2))
    return canvas.resize((S, S), f)


def crop(image, f):
    """transformers' CLIPImageProcessor: shortest edge to S, long = int(S * long / short), centre."""
    w, h = image.size
    short, long = min(w, h), max(w, h)
    size = (S, int(S * long / short)) if w <= h else (int(S * long / short), S)
    image = image.resize(size, f)
    left, top = (size[0] - S) // 2, (size[1] - S) // 2
    return image.crop((left, top, left + S, top + S))


def main():
    assert int(PIL.__version__.split(".")[0]) < 13, "see above"
    rng = np.random.default_rng(20251122)
    out = {}
    for fit in (pad, crop, squash):
        for name, f in FILTERS.items():
            for i, (h, w, c) in enumerate(SHAPES):
                a = picture(rng, h, w, c)
                result = np.asarray(fit(Image.fromarray(to_rgb(a)), f))
                out[f"in.{fit.__name__}.{name}.{i}"] = a
                out[f"out.{fit.__name__}.{name}.{i}"] = result.copy()
    path = sys.argv[1] if len(sys.argv) > 1 else "tests/data/preprocess/pillow.safetensors"
    save_file(out, path, {"pillow": PIL.__version__})


main()
