# SPDX-License-Identifier: MIT
"""Picture files through the program: what is read and what is refused (their pixels are compared by
tests/unit/test_image_decode.c)."""

import os
import subprocess
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import BIN, IMAGES, ok, refused, run

GOOD = sorted(p.stem for p in IMAGES.glob("*.rgb"))
BAD = {
    "bad_text": (3, "not an image in a known format"),
    "bad_empty.png": (3, "damaged PNG"),
    "bad_empty.ppm": (3, "an empty image: 0x0"),
    "bad_huge.png": (4, "20000x20000"),
    "bad_huge.jpg": (4, "20000x20000"),
    "bad_huge.ppm": (4, "20000x20000"),
    "bad_cut.png": (3, "damaged PNG"),
    "bad_cut.webp": (3, "WebP is truncated"),
    "bad_cut.ppm": (3, "truncated"),
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


def test_a_cut_picture_is_described_with_a_warning(model):
    """As browsers show it; the file is named, and JSON says it too."""
    name = IMAGES / "cut.jpg"
    done = ok("describe", "-m", model, "--json", "-q", "-n", 1, name, IMAGES / "rgb.jpg")
    assert done.err.startswith(f"tinyvlm: warning: {name}: the JPEG is truncated"), done.err
    assert done.err.count("\n") == 1
    cut, whole = done.json()
    assert cut["warning"].startswith("the JPEG is truncated") and "warning" not in whole


@pytest.mark.parametrize("name", ["rgb.jpg", "cut.jpg", "bad_cut.png", "missing.jpg"])
def test_a_picture_decoded_while_the_model_loads(model, name):
    """A second thread does that: what is said is the same."""
    runs = [vars(run("describe", "-m", model, "-q", "-n", 4, "-t", n, IMAGES / name)) for n in (1, 2)]
    assert runs[0] == runs[1]


def test_a_model_that_fails_comes_before_its_picture(tmp_path):
    """The picture decoded meanwhile, cut or broken, is not spoken of."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    for name in ("cut.jpg", "bad_cut.png"):
        done = refused(3, str(broken), "describe", "-m", broken, "-t", 2, IMAGES / name)
        assert name not in done.err and done.err.count("\n") == 1


def test_a_name_is_one_line_of_text(model, tmp_path):
    name = tmp_path / "a\n\x1b[31m.jpg"
    name.write_bytes((IMAGES / "cut.jpg").read_bytes())
    done = ok("describe", "-m", model, "-q", "-n", 1, name)
    assert "truncated" in done.err and done.err.count("\n") == 1 and "\x1b" not in done.err


def test_max_pixels(model):
    """rgb.ppm has 19 x 13 pixels."""
    ok("describe", "-m", model, "-n", 1, "--max-pixels", 247, IMAGES / "rgb.ppm")
    done = refused(4, "limit is 246", "describe", "-m", model, "--max-pixels", 246, IMAGES / "rgb.ppm")
    assert f"{IMAGES / 'rgb.ppm'}: an image of 19x13" in done.err
    for value in ("0", "-1", "many", "5M"):
        refused(2, "--max-pixels", "describe", "-m", model, "--max-pixels", value, IMAGES / "rgb.ppm")


def test_names_of_what_is_no_file(model, tmp_path):
    refused(3, "standard input: the file is empty", "describe", "-m", model, "-")
    refused(3, f"{tmp_path}: cannot read: Is a directory", "describe", "-m", model, tmp_path)
    missing = tmp_path / "missing.jpg"
    refused(3, f"{missing}: cannot open: No such file", "describe", "-m", model, missing)


def test_fifo(model, tmp_path):
    fifo, data = tmp_path / "fifo.jpg", (IMAGES / "rgb.jpg").read_bytes()
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(data,))
    writer.start()
    done = ok("describe", "-m", model, "-n", 1, fifo)
    writer.join()
    assert done.out == ok("describe", "-m", model, "-n", 1, "-", stdin=data).out


def test_standard_input_is_read_from_where_it_stands(model, tmp_path):
    """As the second reader of a file would: { head -c 100; tinyvlm describe -; } < FILE"""
    (tmp_path / "two").write_bytes(bytes(100) + (IMAGES / "rgb.jpg").read_bytes())
    with open(tmp_path / "two", "rb") as file:
        os.lseek(file.fileno(), 100, os.SEEK_SET)
        subprocess.run([BIN, "describe", "-m", model, "-n", "1", "-"], stdin=file, check=True)


def test_a_stream_without_end_that_is_no_picture(model):
    refused(3, "/dev/zero: not an image", "describe", "-m", model, "/dev/zero")


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
