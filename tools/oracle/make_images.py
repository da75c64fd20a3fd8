#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes tests/data/images: small pictures of every kind that the decoders meet, and beside each
that must decode NAME.rgb, what Pillow makes of it (convert("RGB"), EXIF applied): width and height
as little-endian u16, then the bytes. Names that begin with bad_ must be refused.

    python3 tools/oracle/make_images.py [OUT]        (needs numpy, pillow)
"""
import os
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

W, H = 19, 13


def picture(h=H, w=W):
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([x * 13 % 256, y * 19 % 256, (x * 7 + y * 11) % 256], -1).astype(np.uint8)


def save(out, name, image, **options):
    path = os.path.join(out, name)
    image.save(path, **options)
    with Image.open(path) as back:
        rgb = ImageOps.exif_transpose(back).convert("RGB")
    keep(out, name, np.asarray(rgb))


def keep(out, name, rgb):
    write(out, name + ".rgb", struct.pack("<HH", rgb.shape[1], rgb.shape[0]) + rgb.tobytes())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, depth, color, rows=b""):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write(out, name, data):
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)


def make_png(out):
    rgb = picture()
    grey = Image.fromarray(rgb[:, :, 0])
    alpha = Image.fromarray(rgb[:, :, 2])
    save(out, "rgb.png", Image.fromarray(rgb))
    save(out, "one.png", Image.fromarray(rgb[:1, :1]))
    save(out, "grey.png", grey)
    save(out, "bilevel.png", grey.convert("1"))
    save(out, "grey_alpha.png", Image.merge("LA", (grey, alpha)))
    save(out, "rgba.png", Image.merge("RGBA", (*Image.fromarray(rgb).split(), alpha)))
    save(out, "palette.png", Image.fromarray(rgb).quantize(16), transparency=3)
    # Pillow clips 16-bit grey; the upper byte is what every viewer shows
    wide = (rgb.astype(np.uint16) * 257 + 100).clip(0, 65535)
    rows = b"".join(b"\0" + r.astype(">u2").tobytes() for r in wide)
    write(out, "rgb16.png", png(W, H, 16, 2, rows))
    keep(out, "rgb16.png", (wide >> 8).astype(np.uint8))
    rows = b"".join(b"\0" + r.astype(">u2").tobytes() for r in wide[:, :, 0])
    write(out, "grey16.png", png(W, H, 16, 0, rows))
    keep(out, "grey16.png", np.repeat((wide[:, :, :1] >> 8).astype(np.uint8), 3, 2))
    write(out, "bad_empty.png", png(0, 0, 8, 2))
    write(out, "bad_huge.png", png(20000, 20000, 8, 2, b"\0" * 60001))
    with open(os.path.join(out, "rgb.png"), "rb") as f:
        write(out, "bad_cut.png", f.read()[:-30])


def make_jpeg(out):
    rgb = Image.fromarray(picture(26, 38))
    save(out, "rgb.jpg", rgb, quality=85)
    save(out, "grey.jpg", rgb.convert("L"), quality=85)
    save(out, "progressive.jpg", rgb, quality=85, progressive=True, subsampling=0)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(out, f"exif{orientation}.jpg", rgb, quality=85, exif=exif)
    exif[0x0112] = 6
    save(out, "exif6.png", rgb, exif=exif)
    save(out, "exif6.webp", rgb, exif=exif, lossless=True)
    rgb.convert("CMYK").save(os.path.join(out, "bad_cmyk.jpg"), quality=85)
    with open(os.path.join(out, "rgb.jpg"), "rb") as f:
        data = f.read()
    write(out, "bad_cut.jpg", data[:-60])
    write(out, "stray.jpg", data[:-2] + b"\0\0\0\0" + data[-2:])
    keep(out, "stray.jpg", np.asarray(Image.open(os.path.join(out, "rgb.jpg")).convert("RGB")))
    huge = bytearray(data)
    at = huge.index(b"\xff\xc0") + 5
    huge[at:at + 4] = struct.pack(">HH", 20000, 20000)
    write(out, "bad_huge.jpg", bytes(huge))


def make_others(out):
    rgb = picture()
    still = Image.fromarray(rgb)
    save(out, "lossless.webp", still, lossless=True)
    save(out, "lossy.webp", still, quality=80)
    alpha = Image.merge("RGBA", (*still.split(), Image.fromarray(rgb[:, :, 2])))
    save(out, "alpha.webp", alpha, lossless=True, exact=True)
    frames = [still, Image.fromarray(255 - rgb)]
    frames[0].save(os.path.join(out, "bad_animated.webp"), save_all=True, append_images=frames[1:])
    frames[0].save(os.path.join(out, "bad_animated.gif"), save_all=True, append_images=frames[1:])
    with open(os.path.join(out, "lossy.webp"), "rb") as f:
        write(out, "bad_cut.webp", f.read()[:-20])
    save(out, "rgb.ppm", still)
    save(out, "grey.pgm", still.convert("L"))
    wide = rgb.astype(np.uint16) * 257
    write(out, "rgb16.ppm", b"P6 # sixteen bits\n%d %d\n65535\n" % (W, H) + wide.astype(">u2").tobytes())
    keep(out, "rgb16.ppm", rgb)
    write(out, "maxval.ppm", b"P6 2 1 15\n" + bytes([0, 5, 15, 15, 20, 1]))
    keep(out, "maxval.ppm", np.array([[[0, 85, 255], [255, 255, 17]]], np.uint8))
    write(out, "bad_empty.ppm", b"P6 0 0 255\n")
    write(out, "bad_cut.ppm", b"P6 9 9 255\nabc")
    write(out, "bad_huge.ppm", b"P6 20000 20000 255\n")
    write(out, "bad_text", b"hello, this is no picture\n")


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else "tests/data/images"
    os.makedirs(out, exist_ok=True)
    make_png(out)
    make_jpeg(out)
    make_others(out)


main()
