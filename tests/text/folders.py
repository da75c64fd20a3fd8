# SPDX-License-Identifier: MIT
"""Drivers in C, compiled from the sources themselves."""
import glob
import os
import struct
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READER = ["app/convert/tokenizer_files.c", "app/convert/json_file.c", "app/system/posix.c"]


def compile_driver(folder, name, *sources):
    """tests/text/NAME.c with the library's lower layers and the sources named."""
    files = [f"tests/text/{name}.c", *sources, *glob.glob("src/text/*.c", root_dir=ROOT),
             *glob.glob("src/base/*.c", root_dir=ROOT), *glob.glob("src/os/posix*.c", root_dir=ROOT)]
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-pthread", "-Iinclude", "-Isrc", "-Iapp"]
    if sources:
        flags += subprocess.run(["pkg-config", "--cflags", "--libs", "jansson"], capture_output=True, check=True,
                                text=True).stdout.split()
    path = folder / name
    subprocess.run([os.environ.get("CC", "cc"), *files, *flags, "-lm", "-o", path], check=True, cwd=ROOT)
    return path


def encode(driver, folder, texts):
    """The ids of each text by encode_folder, or the message that refuses the folder."""
    data = b"".join(struct.pack("=I", len(t.encode())) + t.encode() for t in texts)
    done = subprocess.run([driver, folder], input=data, capture_output=True, check=False)
    if done.returncode == 3:
        return done.stderr.decode().strip()
    assert done.returncode == 0, done.stderr
    out, at = [], 0
    while at < len(done.stdout):
        (n,) = struct.unpack_from("=I", done.stdout, at)
        out.append(list(struct.unpack_from(f"={n}i", done.stdout, at + 4)))
        at += 4 + 4 * n
    return out
