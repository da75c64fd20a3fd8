# SPDX-License-Identifier: MIT
"""The pictures of Pillow's own tests, from its source distribution on PyPI: what a telephone or a camera
could write and Pillow reads is read, with the same pixels; the exceptions are listed with their reasons."""

import fnmatch
import pathlib
import subprocess
import sys
import tarfile
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "image"))
from test_pillow import decode, on_white  # noqa: E402

READ = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "PPM", "AVIF"}
NAMED = {"TIFF", "BMP", "JPEG2000", "ICO", "CUR", "PSD", "DDS", "QOI"}
REFUSED = {
    "*.pfm": "floating point",
    "issue_2811.gif": "codes of 11 bits: the standard has 8 at most, giflib keeps to it",
}
UNLIKE = {
    "16_bit_binary.pgm": "16 bits of grey, which Pillow's conversion to RGB cuts off at 255",
    "hopper_16bit*.pgm": "16 bits of grey, which Pillow's conversion to RGB cuts off at 255",
    "i_trns.png": "16 bits of grey, which Pillow's conversion to RGB cuts off at 255",
    "avif/xmp_tags_orientation.avif": "AVIF is turned by its own properties, as browsers turn it",
    "avif/*": "libheif and libavif turn YUV into RGB each in its own way",
}
WARNED = {"hopper_bad_exif.jpg": "its last codes are damaged"}


def match(name, table):
    return next((reason for key, reason in table.items() if fnmatch.fnmatch(name, key)), None)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pillow")
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps",
                    "--disable-pip-version-check", "-d", str(folder), "pillow==12.0.0"], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / "pillow-12.0.0" / "Tests" / "images"


def pillows(path):
    """(format, pixels), pixels None where Pillow refuses."""
    kind = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as im:
                kind = im.format
                im.load()
                return kind, np.asarray(on_white(ImageOps.exif_transpose(im)))
    except Exception:  # whatever it raises, it shows nothing
        return kind, None


def fault(name, kind, want, got):
    if isinstance(got, str):
        if kind in READ:
            return None if match(name, REFUSED) else got
        named = "not an image in a known format" not in got
        return None if named or kind not in NAMED else "is not named"
    if match(name, UNLIKE):
        return None if got[0].shape == want.shape or "orientation" in name else "has another size"
    if got[0].shape != want.shape or not np.array_equal(got[0], want):
        return "has other pixels"
    return f"warns: {got[1]}" if got[1] and not match(name, WARNED) else None


def test_pillows_pictures(images):
    paths = [p for p in sorted(images.rglob("*")) if p.is_file()]
    equal, faults = 0, []
    for path, got in zip(paths, decode(paths)):
        name, (kind, want) = path.relative_to(images).as_posix(), pillows(path)
        if want is None:
            continue
        if found := fault(name, kind, want, got):
            faults.append(f"{name} ({kind}): {found}")
        equal += not isinstance(got, str) and np.array_equal(got[0], want)
    assert not faults, "\n".join(faults)
    print(f"{equal} of {len(paths)} files have Pillow's pixels")
    assert equal > 500
