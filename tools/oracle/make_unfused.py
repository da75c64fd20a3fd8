#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Completes tests/data/golden/tiny_unfused: the tiny model with its tower in training form.

    python3 tools/oracle/make_unfused.py [GOLDEN]      (standard library only)

The multi-branch tower (model-00001-of-00002.safetensors) is given; this adds everything but the
tower from GOLDEN/tiny as the second shard, the index, and the configuration and tokenizer files.
"""
import json
import os
import shutil
import struct
import sys

TOWER = "model.vision_tower."
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def read(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    header.pop("__metadata__", None)
    return {k: (v, data[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in header.items()}


def write(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for k, (v, raw) in tensors.items():
        header[k] = {"dtype": v["dtype"], "shape": v["shape"],
                     "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    golden = sys.argv[1] if len(sys.argv) > 1 else "tests/data/golden"
    source, out = os.path.join(golden, "tiny"), os.path.join(golden, "tiny_unfused")
    rest = {k: v for k, v in read(os.path.join(source, "model.safetensors")).items()
            if not k.startswith(TOWER)}
    write(os.path.join(out, SHARDS[1]), rest)
    names = {k: SHARDS[0] for k in read(os.path.join(out, SHARDS[0]))} | {k: SHARDS[1] for k in rest}
    with open(os.path.join(out, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {}, "weight_map": names}, f, indent=1, sort_keys=True)
    for name in os.listdir(source):
        if not name.startswith("model."):
            shutil.copy(os.path.join(source, name), out)


main()
