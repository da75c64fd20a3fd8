# SPDX-License-Identifier: MIT
"""Picture files through the program: what is read and what is refused (their pixels are compared by
tests/unit/test_image_decode.c)."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import IMAGES, ok, refused

GOOD = sorted(p.stem for p in IMAGES.glob("*.rgb"))
BAD = {
    "bad_text": (3, "not a JPEG, PNG, WebP or PPM picture"),
    "bad_empty.png": (3, "damaged PNG"),
    "bad_empty.ppm": (3, "an empty picture: 0x0"),
    "bad_huge.png": (4, "20000x20000"),
    "bad_huge.jpg": (4, "20000x20000"),
    "bad_huge.ppm": (4, "20000x20000"),
    "bad_cut.png": (3, "damaged PNG"),
    "bad_cut.jpg": (3, "damaged JPEG"),
    "bad_cut.webp": (3, "damaged WebP"),
    "bad_cut.ppm": (3, "truncated"),
    "bad_cmyk.jpg": (3, "CMYK"),
    "bad_animated.webp": (3, "animated WebP"),
    "bad_animated.gif": (3, "GIF"),
}


def test_every_kind_is_described(model):
    done = ok("describe", "-m", model, "--json", "-n", 1, *[IMAGES / name for name in GOOD])
    assert [line["image"] for line in done.json()] == [str(IMAGES / name) for name in GOOD]


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_picture(model, name):
    code, message = BAD[name]
    done = refused(code, message, "describe", "-m", model, IMAGES / name)
    assert str(IMAGES / name) in done.err and done.out == ""


def test_the_list_is_complete():
    assert sorted(BAD) == sorted(p.name for p in IMAGES.iterdir() if p.name.startswith("bad_"))


def pixels(tmp_path, model, name):
    out = tmp_path / "out.safetensors"
    ok("dump", "-m", model, "--image", IMAGES / name, "-p", "x", "-o", out, "--new-tokens", 0)
    return load_file(out)["pixel_values"]


def test_dump_ignores_orientation(tmp_path, model):
    """The reference does; describe turns the picture."""
    assert np.array_equal(pixels(tmp_path, model, "exif6.jpg"), pixels(tmp_path, model, "rgb.jpg"))


def test_fit(tmp_path, model):
    out = tmp_path / "out.safetensors"
    ok(
        "dump",
        "-m",
        model,
        "--image",
        IMAGES / "rgb.png",
        "-p",
        "x",
        "-o",
        out,
        "--new-tokens",
        0,
        "--fit",
        "crop",
    )
    cropped, padded = load_file(out)["pixel_values"], pixels(tmp_path, model, "rgb.png")
    assert padded[:, 0].max() == 0 and cropped[:, 0].max() > 0  # 19x13: black above and below
