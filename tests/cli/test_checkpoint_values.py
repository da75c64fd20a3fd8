# SPDX-License-Identifier: MIT
"""Weights and statistics that are no numbers are refused by the tensor's name, whatever they fold into."""

import json
import shutil
import struct

import pytest

from conftest import GOLDEN, refused

BFLOAT = {"nan": 0x7FC0, "inf": 0x7F80, "-inf": 0xFF80, "-1": 0xBF80}
TENSORS = [
    "running_mean",
    "running_var",
    "bn.weight",
    "bn.bias",
    "norm.weight",
    "layer_scale",
    "layer_scale_1",
    "patch_embed.0.rbr_conv.0.conv.weight",
    "qkv.weight",
    "pe.weight",
    "se.reduce.weight",
    "mm_projector.0.bias",
    "embed_tokens.weight",
    "input_layernorm.weight",
    "q_proj.bias",
    "down_proj.weight",
    "lm_head.weight",
]


def poke(folder, suffix, value):
    """Sets the last value of the first tensor whose name ends so; returns the name."""
    for path in sorted(folder.glob("*.safetensors")):
        raw = bytearray(path.read_bytes())
        n = struct.unpack("<Q", raw[:8])[0]
        for name, entry in json.loads(raw[8 : 8 + n]).items():
            if name.endswith(suffix) and entry["dtype"] == "BF16":
                end = 8 + n + entry["data_offsets"][1]
                raw[end - 2 : end] = struct.pack("<H", value)
                path.write_bytes(raw)
                return name
    raise LookupError(suffix)


@pytest.mark.parametrize(
    "suffix,value",
    [(suffix, ("nan", "inf", "-inf")[i % 3]) for i, suffix in enumerate(TENSORS)]
    + [("running_var", "nan"), ("running_var", "-1")],
)
def test_refused_by_name(tmp_path, suffix, value):
    folder, out = tmp_path / "checkpoint", tmp_path / "out.gguf"
    shutil.copytree(GOLDEN / "tiny_unfused", folder)
    name = poke(folder, suffix, BFLOAT[value])
    if value == "-1":
        done = refused(3, "is no variance", "convert", "-q", folder, out)
    else:
        done = refused(3, f"'{name}' contains NaN or infinity", "convert", "-q", folder, out)
    assert str(folder) in done.err and suffix in done.err
    assert list(tmp_path.iterdir()) == [folder]
