#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random weights in the widths of a published FastVLM, from the tests' small one: few layers, so that it is made and run in
seconds where only the size of a layer matters (bench/cancel.c); with DEPTHS, 2,12,24,4,2, all of FastViTHD's.

    bench/widen.py tiny.gguf OUT.gguf 0.5b|7b [DEPTHS]   tiny.gguf: tinyvlm convert tests/data/golden/tiny tiny.gguf --type f32
"""

import re
import sys

import gguf
import numpy as np

# hidden, heads, key/value heads, head, feed-forward
SIZES = {"0.5b": (896, 14, 2, 64, 4864), "7b": (3584, 28, 4, 128, 18944)}
TOWER = 12  # 96 channels in the first stage for the small one's 8
VOCAB = 151936


def shape_of(tensor, size):
    hidden, heads, kv_heads, head, ff = size
    shape = [int(n) for n in tensor.shape]
    if tensor.name.startswith("v."):
        return [n if n in (3, 7) else TOWER * n for n in shape]
    old = {"hidden": 64, "kv": 32, "ff": 160, "vocab": 576, "vision": 256}
    new = {"hidden": hidden, "kv": kv_heads * head, "ff": ff, "vocab": VOCAB, "vision": TOWER * 256}
    return [next(new[k] for k in old if old[k] == n) for n in shape]


def names(tensor, depths):
    """Its own, or of a stage's first block those of all."""
    block = re.fullmatch(r"(v\.stage\.(\d)\.blk\.)(\d+)(\..*)", tensor.name)
    if not depths or not block:
        return [tensor.name]
    return [f"{block[1]}{i}{block[4]}" for i in range(depths[int(block[2])])] if block[3] == "0" else []


def values(rng, name, shape):
    """Such that a picture lasts to the end of forty blocks: their mixers have the skip folded in."""
    gain = (0.5 if ".blk." in name else 1.5) / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.01
    drawn = rng.standard_normal(shape, np.float32) * np.float32(gain)
    if name.endswith(".mixer.weight"):
        drawn[:, shape[1] // 2, shape[2] // 2] += 1
    return drawn


def fields(reader, size, depths):
    hidden, heads, kv_heads, head, ff = size
    changed = {"embedding_length": hidden, "attention.head_count": heads, "attention.head_count_kv": kv_heads,
               "attention.key_length": head, "attention.value_length": head, "rope.dimension_count": head,
               "feed_forward_length": ff, "vocab_size": VOCAB}
    changed = {f"fastvlm.{k}": v for k, v in changed.items()} | {"vision.image_size": 1024}
    if depths:
        changed["vision.fastvit.depths"] = depths
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "tinyvlm.file_version", "tinyvlm.header", "tinyvlm.tensor", "general.architecture")):
            yield key, changed.get(key, field.contents()), field


def main():
    source, out, name, *rest = sys.argv[1:]
    depths = [int(n) for n in rest[0].split(",")] if rest else []
    reader, size, rng = gguf.GGUFReader(source), SIZES[name], np.random.default_rng(1)
    writer = gguf.GGUFWriter(out, "fastvlm")
    writer.data_alignment = 64
    for key, value, field in fields(reader, size, depths):
        writer.add_key_value(key, value, field.types[0], field.types[1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        for place in names(tensor, depths):
            writer.add_tensor(place, values(rng, place, shape_of(tensor, size)[::-1]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
