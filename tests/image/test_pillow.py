# SPDX-License-Identifier: MIT
"""Decoded pixels against Pillow's: hundreds of files of every kind that tests/image/pictures.py makes."""

import io
import os
import pathlib
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image, ImageOps

import pictures

BUILD = pathlib.Path(os.environ["TVLM_BUILD_DIR"]) / "tests"


def decode(paths, mode="shown"):
    """Per path (pixels, warning), or the error's text."""
    done = subprocess.run([BUILD / "decode_list", mode], input="\n".join(map(str, paths)).encode(),
                          capture_output=True, check=True)
    stream = io.BytesIO(done.stdout)
    out = []
    for _ in paths:
        word, text = stream.readline().decode().rstrip("\n").split(" ", 1)
        if word != "ok":
            out.append(text)
            continue
        w, h, bands, warning = text.split(" ", 3)
        pixels = np.frombuffer(stream.read(int(w) * int(h) * int(bands)), np.uint8)
        pixels = pixels.reshape(int(h), int(w), int(bands))
        out.append((np.broadcast_to(pixels, (int(h), int(w), 3)), warning))
    assert not stream.read()
    return out


def on_white(im):
    if im.mode in ("LA", "PA", "RGBA") or "transparency" in im.info:
        im = im.convert("RGBA")
        im = Image.alpha_composite(Image.new("RGBA", im.size, (255,) * 4), im)
    return im.convert("RGB")


def eight_bits(im):
    """Of 16 bits of grey, which Pillow's conversion to RGB cuts off at 255: browsers show their high
    byte (PNG), netpbm scales (PGM)."""
    a = np.asarray(im)
    return Image.fromarray((np.rint(a / 257) if im.mode == "I" else a >> 8).astype(np.uint8))


def pillows(picture, mode):
    im = Image.open(io.BytesIO(picture.like or picture.data))
    im.load()
    if picture.wide:
        im = eight_bits(im)
    return np.asarray(im.convert("RGB") if mode == "stored" else on_white(ImageOps.exif_transpose(im)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    out = pictures.everything(BUILD / "encode_jpeg")
    for p in out:
        (folder / p.name).write_bytes(p.data)
    return folder, out


def fault(p, got, mode):
    """What is wrong with a decoded picture, or None."""
    if isinstance(got, str):
        return got
    pixels, warning = got
    want = pillows(p, mode)
    if bool(warning) != bool(p.warning) or p.warning not in warning:
        return f"warns '{warning}'"
    if pixels.shape != want.shape:
        return f"{pixels.shape}, Pillow {want.shape}"
    most = int(np.abs(pixels.astype(int) - want).max())
    return f"differs by {most}" if most > p.most else None


@pytest.mark.parametrize("mode", ["shown", "stored"])
def test_equal_to_pillow(made, mode):
    folder, all_pictures = made
    assert len({p.name for p in all_pictures}) == len(all_pictures) > 500
    decoded = decode([folder / p.name for p in all_pictures], mode)
    faults = [f"{p.name}: {f}" for p, got in zip(all_pictures, decoded) if (f := fault(p, got, mode))]
    assert not faults, "\n".join(faults)


CUT = {
    "baseline.jpg": lambda im: pictures.saved(im, "JPEG", quality=85),
    "restarts.jpg": lambda im: pictures.saved(im, "JPEG", restart_marker_rows=1),
    "plain.png": lambda im: pictures.saved(im, "PNG"),
    "rgba.png": lambda im: pictures.saved(im.convert("RGBA"), "PNG"),
    "lossy.webp": lambda im: pictures.saved(im, "WEBP", quality=80),
    "lossless.webp": lambda im: pictures.saved(im, "WEBP", lossless=True),
    "plain.gif": lambda im: pictures.saved(im.quantize(200), "GIF", interlace=0),
    "binary.ppm": lambda im: pictures.saved(im, "PPM"),
    "plain.ppm": lambda im: b"P3 160 120 255\n" + b" ".join(b"%d" % v for v in im.tobytes()),
}


def test_cut_before_the_colours(tmp_path):
    """A lossy WebP has its alpha first: cut in there, nothing can be shown."""
    whole = pictures.saved(pictures.image("RGBA", 64, 48), "WEBP", quality=80)
    at = whole.index(b"VP8 ")
    paths = [tmp_path / f"{size}.webp" for size in range(60, at, 40)]
    for path in paths:
        path.write_bytes(whole[:int(path.stem)])
    for text in decode(paths):
        assert isinstance(text, str) and "truncated" in text


@pytest.mark.parametrize("name", sorted(CUT))
def test_cut(tmp_path, name):
    """A file cut short at any place is shown with a warning, its upper part as it was, or refused
    when next to nothing is there."""
    whole = CUT[name](pictures.image("RGB", 160, 120))
    sizes = [*range(0, 700, 7), *(len(whole) * i // 40 for i in range(1, 40))]
    paths = [tmp_path / f"{i}_{name}" for i in range(len(sizes))]
    for path, size in zip(paths, sizes):
        path.write_bytes(whole[:size])
    (tmp_path / name).write_bytes(whole)
    (want, nothing), *parts = decode([tmp_path / name, *paths])
    assert nothing == ""
    for size, part in zip(sizes, parts):
        if size >= len(whole) // 4:
            pixels, warning = part
            assert "truncated" in warning and pixels.shape == want.shape
            rows = 120 * size // len(whole) // 3 if size > len(whole) // 2 else 0
            assert np.array_equal(pixels[:rows], want[:rows]), (size, len(whole))
        else:
            assert isinstance(part, str) or "truncated" in part[1], (size, part)


@pytest.mark.parametrize("kind", ["progressive.jpg", "interlaced.png"])
def test_cut_between_passes(tmp_path, kind):
    """Coarser, but whole, once the first pass is there."""
    im = pictures.image("RGB", 160, 120).resize((320, 240))
    whole = (pictures.saved(im, "JPEG", progressive=True) if kind == "progressive.jpg" else
             pictures.png(320, 240, 8, 2, True, samples=np.asarray(im).astype(int)))
    for part in (4, 6, 8, 9):
        (tmp_path / "cut").write_bytes(whole[:len(whole) * part // 10])
        (tmp_path / "whole").write_bytes(whole)
        (pixels, warning), (want, _) = decode([tmp_path / "cut", tmp_path / "whole"])
        assert "truncated" in warning
        assert np.abs(pixels.astype(int) - want).mean() < 25


def test_damaged_codes(tmp_path):
    """A hole in a scan: shown, with a warning or (where the codes still fit) without."""
    whole = pictures.saved(pictures.image("RGB", 160, 120), "JPEG", restart_marker_rows=1)
    middle = len(whole) // 2
    (tmp_path / "hole.jpg").write_bytes(whole[:middle] + b"\xff\xd3" + whole[middle + 300:])
    ((_, warning),) = decode([tmp_path / "hole.jpg"])
    assert "damaged" in warning


def refusals(folder, files):
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    answers = decode([folder / name for name in files])
    for (name, (_, message)), answer in zip(files.items(), answers):
        assert isinstance(answer, str), name
        assert f"{folder / name}: " in answer and message in answer, (name, answer)


def test_what_is_no_picture_is_named(tmp_path):
    def ftyp(brand):
        return b"\0\0\0\x18ftyp" + brand + bytes(12)
    refusals(tmp_path, {
        "a.bmp": (pictures.saved(pictures.image("RGB"), "BMP"), "a BMP image: convert it"),
        "a.tif": (pictures.saved(pictures.image("RGB"), "TIFF"), "a TIFF or a camera's raw"),
        "a.jp2": (pictures.saved(pictures.image("RGB"), "JPEG2000"), "a JPEG 2000 image"),
        "a.ico": (pictures.saved(pictures.image("RGB"), "ICO"), "an icon (ICO)"),
        "a.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        "b.jxl": (b"\xff\x0a\0\0", "a JPEG XL image"),
        "a.psd": (b"8BPS\0\1", "a Photoshop document"),
        "a.svg": (b"\n <SVG xmlns=''>", "an SVG drawing"),
        "a.pdf": (b"%PDF-1.7\n", "a PDF document"),
        "a.mp4": (ftyp(b"isom"), "a video (MP4 or MOV): save one of its frames"),
        "a.mov": (ftyp(b"qt  "), "a video (MP4 or MOV)"),
        "a.cr3": (ftyp(b"crx "), "a camera's raw image"),
        "a.heic": (ftyp(b"heic"), "HEIC"),
        "a.avif": (ftyp(b"avif"), "AVIF"),
        "html.jpg": (b"\xef\xbb\xbf\n<!DOCTYPE HTML><html>", "a web page (HTML): not an image"),
        "json.jpg": (b'{"error": "not found"}', "a JSON text: not an image"),
        "lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        "a.gguf": (b"GGUF\3\0\0\0", "a model file (GGUF): not an image"),
        "empty.jpg": (b"", "the file is empty"),
        "text.jpg": (b"hello", "not an image in a known format"),
        "one.jpg": (b"\xff", "not an image in a known format"),
        "soi.jpg": (b"\xff\xd8", "JPEG"),
        "soi2.jpg": (b"\xff\xd8\xff\xe0", "JPEG"),
        "twelve.jpg": (pictures.saved(pictures.image("RGB"), "JPEG").replace(
            b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "a JPEG of 12 bits a sample"),
        "lossless.jpg": (pictures.saved(pictures.image("RGB"), "JPEG").replace(
            b"\xff\xc0\0\x11\x08", b"\xff\xc3\0\x11\x08"), "SOF type 0xc3"),
    })


def with_size(data, w, h):
    at = data.index(b"\xff\xc2") + 5
    return data[:at] + struct.pack(">HH", h, w) + data[at + 4:]


def test_bombs_are_refused_before_work_is_done(tmp_path):
    """Some claim 250 million pixels: decoding them would take seconds each, and gigabytes."""
    progressive = pictures.saved(pictures.image("L", 64, 64), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scan = progressive[last:-2]
    huge = pictures.chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
    refusals(tmp_path, {
        "scans.jpg": (progressive[:-2] + scan * 200 + b"\xff\xd9", "over 100 scans"),
        "wide_scans.jpg": (with_size(progressive[:-2] + scan * 40, 16000, 16000)
                           + bytes(600_000), "in 46 scans"),
        "claims.jpg": (with_size(progressive, 16000, 16000), "the JPEG is truncated"),
        "claims.png": (b"\x89PNG\r\n\x1a\n" + huge + bytes(99), "an image of 40000x40000"),
        "claims.ppm": (b"P6 17000 17000 255\n" + bytes(99), "the PNM is truncated"),
        "claims.gif": (b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b","
                       + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\2\1\1", "65535x65535"),
    })


def test_a_large_jpeg_is_decoded_smaller(tmp_path):
    """Above 50 million pixels at a half; as stored in full."""
    big = Image.linear_gradient("L").resize((8200, 6200))
    (tmp_path / "big.jpg").write_bytes(pictures.saved(big, "JPEG"))
    ((half, warning),) = decode([tmp_path / "big.jpg"])
    assert half.shape == (3100, 4100, 3) and not warning
    want = np.asarray(Image.open(tmp_path / "big.jpg"))
    assert np.abs(half[..., 0].astype(np.int16) - want[::2, ::2]).max() <= 2
    ((full, _),) = decode([tmp_path / "big.jpg"], "stored")
    assert np.array_equal(full[..., 0], want)
