"""Small valid files from which the fuzz targets gguf, gguf_run, quantize, convert and image start (make_corpus.py has the others').

  python tools/oracle/make_fuzz_seeds.py build/tinyvlm        (needs pillow, gguf, numpy, safetensors)

Seeded: the same files every time with the same versions of the packages."""

import io
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from PIL import Image
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
RANDOM = np.random.default_rng(1)


def pictures():
    rgb = RANDOM.integers(0, 256, (9, 13, 3), dtype=np.uint8)
    picture = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    save = {
        "rgb.jpg": lambda f: picture.save(f, "JPEG", exif=exif),
        "progressive.jpg": lambda f: picture.save(f, "JPEG", progressive=True),
        "grey.jpg": lambda f: picture.convert("L").save(f, "JPEG"),
        "cmyk.jpg": lambda f: picture.convert("CMYK").save(f, "JPEG"),
        "rgb.png": lambda f: picture.save(f, "PNG"),
        "palette.png": lambda f: picture.convert("P").save(f, "PNG", transparency=3),
        "grey-alpha.png": lambda f: picture.convert("LA").save(f, "PNG"),
        "rgba.png": lambda f: picture.convert("RGBA").save(f, "PNG"),
        "grey16.png": lambda f: Image.fromarray(RANDOM.integers(0, 65536, (5, 7), dtype=np.uint16)).save(f, "PNG"),
        "rgb.webp": lambda f: picture.save(f, "WEBP"),
        "lossless.webp": lambda f: picture.save(f, "WEBP", lossless=True),
        "animated.webp": lambda f: picture.save(f, "WEBP", save_all=True, append_images=[picture.rotate(90)]),
        "rgb.ppm": lambda f: picture.save(f, "PPM"),
        "grey.pgm": lambda f: picture.convert("L").save(f, "PPM"),
    }
    for name, write in save.items():
        out = io.BytesIO()
        write(out)
        (CORPUS / "image" / name).write_bytes(out.getvalue())


def byte_tokens():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [b for b in range(256) if b not in kept]
    return [chr(b) if b in kept else chr(256 + moved.index(b)) for b in range(256)]


FRAMES = ["<fake_token_around_image>", "<global-img>", *(f"<row_{r}_col_{c}>" for r in (1, 2) for c in (1, 2))]


def vocabulary(w, more=()):
    tokens = byte_tokens() + ["th", "the", "<|im_start|>", "<|im_end|>", *more]
    w.add_string("tokenizer.ggml.model", "gpt2")
    w.add_string("tokenizer.ggml.pre", "smollm")
    w.add_token_list(tokens)
    w.add_token_types([1] * 258 + [3] * (len(tokens) - 258))
    w.add_token_merges(["t h", "th e"])
    w.add_uint32("tokenizer.ggml.eos_token_id", 259)
    return len(tokens)


def weights(*shape):
    return (RANDOM.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def decoder(w, arch, n_vocab, d, ff, cross):
    for key, value in {"block_count": 1, "context_length": 128, "embedding_length": d,
                       "feed_forward_length": ff, "attention.head_count": 2,
                       "attention.head_count_kv": 1}.items():
        w.add_uint32(f"{arch}.{key}", value)
    w.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    w.add_float32(f"{arch}.rope.freq_base", 10000.0)
    q8 = gguf.quants.quantize(weights(n_vocab, d), gguf.GGMLQuantizationType.Q8_0)
    tensors = [("token_embd.weight", q8, gguf.GGMLQuantizationType.Q8_0)]
    if arch == "qwen3":
        tensors += [(f"blk.0.attn_{name}_norm.weight", weights(d // 2), None) for name in "qk"]
    if arch == "fastvlm":
        tensors += [(f"blk.0.attn_{name}.bias", weights(n), None) for name, n in (("q", d), ("k", d // 2), ("v", d // 2))]
    sets = [("attn", True), ("cross", cross)]
    for name, there in sets:
        if there:
            tensors += [(f"blk.0.{name}_norm.weight", weights(d), None), (f"blk.0.{name}_q.weight", weights(d, d), None),
                        (f"blk.0.{name}_k.weight", weights(d // 2, d), None),
                        (f"blk.0.{name}_v.weight", weights(d // 2, d), None),
                        (f"blk.0.{name}_output.weight", weights(d, d), None)]
    if cross:
        tensors.append(("blk.0.cross_gate", weights(1), None))
    tensors += [("blk.0.ffn_norm.weight", weights(d), None), ("blk.0.ffn_gate.weight", weights(ff, d), None),
                ("blk.0.ffn_up.weight", weights(ff, d), None), ("blk.0.ffn_down.weight", weights(d, ff), None),
                ("output_norm.weight", weights(d), None)]
    return tensors


def pair(name, *shape):
    return [(name + ".weight", weights(*shape), None), (name + ".bias", weights(shape[0]), None)]


def tower_and_pooling(w, d):
    """An EfficientNet of two blocks at 32x32, pooled to three tokens."""
    for key, value in {"vision.tower": "efficientnet_lite", "vision.preprocess.mode": "squash"}.items():
        w.add_string(key, value)
    w.add_uint32("vision.image_size", 32)
    for key in ("scale", "bias"):
        w.add_key_value(f"vision.preprocess.{key}", [0.01] * 3, gguf.GGUFValueType.ARRAY,
                        sub_type=gguf.GGUFValueType.FLOAT64)
    w.add_array("vision.efficientnet.strides", [2, 2, 2, 2])
    w.add_array("vision.efficientnet.taps", [2])
    w.add_uint32("tinyvlm.pool.head_count", 2)
    w.add_string("tinyvlm.chat_template", "tinyvlm")
    t = pair("v.stem", 8, 3, 3, 3)
    for i in range(4):
        t += pair(f"v.blk.{i}.expand", 16, 8) + pair(f"v.blk.{i}.dw", 16, 3, 3) + pair(f"v.blk.{i}.project", 8, 16)
    t += pair("v.head", 24, 8) + pair("mm.pool.hi", d, 24) + pair("mm.pool.lo", d, 8)
    t += [("mm.pool.pos", weights(5, d), None), ("mm.pool.query", weights(3, d), None)]
    for name in ("norm", "ffn_norm", "out_norm"):
        t += pair(f"mm.pool.{name}", d)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        t += pair(f"mm.pool.{name}", d, d)
    return t + pair("mm.pool.ffn_up", 2 * d, d) + pair("mm.pool.ffn_down", d, 2 * d)


def fastvit(w, d):
    """Two stages at 32x32, the second of attention: 16 tower tokens."""
    w.add_string("vision.tower", "fastvit")
    w.add_string("vision.preprocess.mode", "pad")
    w.add_uint32("vision.image_size", 32)
    for key in ("scale", "bias"):
        w.add_key_value(f"vision.preprocess.{key}", [0.01] * 3, gguf.GGUFValueType.ARRAY,
                        sub_type=gguf.GGUFValueType.FLOAT64)
    w.add_array("vision.fastvit.depths", [1, 1])
    w.add_uint32("vision.fastvit.head_dim", 8)
    w.add_string("tinyvlm.chat_template", "fastvlm")
    t = pair("v.stem.0", 8, 3, 3, 3) + pair("v.stem.1", 8, 3, 3) + pair("v.stem.2", 8, 8)
    for stage, c in ((0, 8), (1, 16)):
        if stage:
            t += pair("v.stage.1.down.dw", c, 7, 7) + pair("v.stage.1.down.pw", c, c) + pair("v.stage.1.pos", c, 3, 3)
        block = f"v.stage.{stage}.blk.0."
        t += (pair(block + "attn_qkv", 3 * c, c) + pair(block + "attn_output", c, c)) if stage else pair(block + "mixer", c, 3, 3)
        t += pair(block + "ffn_dw", c, 7, 7) + pair(block + "ffn_up", 24, c) + pair(block + "ffn_down", c, 24)
    t += pair("v.exp.dw", 32, 3, 3) + pair("v.exp.se_reduce", 8, 32) + pair("v.exp.se_expand", 32, 8)
    return t + pair("mm.0", d, 32) + pair("mm.2", d, d)


def siglip(w, d):
    """One layer over frames of 32 pixels in 4 x 4 patches, 2 x 2 shuffled; a longer edge of 64."""
    w.add_string("vision.tower", "siglip")
    w.add_string("vision.preprocess.mode", "split")
    w.add_string("vision.preprocess.filter", "lanczos")
    w.add_uint32("vision.image_size", 32)
    w.add_uint32("vision.preprocess.split_edge", 64)
    for key in ("scale", "bias", "mean", "std"):
        w.add_key_value(f"vision.preprocess.{key}", [0.01] * 3, gguf.GGUFValueType.ARRAY,
                        sub_type=gguf.GGUFValueType.FLOAT64)
    for key, value in {"block_count": 1, "embedding_length": 16, "feed_forward_length": 24, "head_count": 2,
                       "patch_size": 8, "shuffle": 2}.items():
        w.add_uint32(f"vision.siglip.{key}", value)
    w.add_string("tinyvlm.chat_template", "smolvlm")
    t = pair("v.patch_embd", 16, 192) + [("v.position_embd.weight", weights(16, 16), None)] + pair("v.post_ln", 16)
    for name, n, k in (("attn_q", 16, 16), ("attn_k", 16, 16), ("attn_v", 16, 16), ("attn_out", 16, 16),
                       ("ffn_up", 24, 16), ("ffn_down", 16, 24)):
        t += pair(f"v.blk.0.{name}", n, k)
    return t + pair("v.blk.0.ln1", 16) + pair("v.blk.0.ln2", 16) + [("mm.model.fc.weight", weights(d, 64), None)]


def as_pytorch(name, data):
    """Halves, in the shapes of PyTorch's convolutions: [n][k][1][1], [c][1][k][k]."""
    shape = data.shape
    if name.endswith(".dw.weight"):
        shape = (shape[0], 1, *shape[1:])
    elif len(shape) == 2 and name.endswith(".weight"):
        shape = (*shape, 1, 1)
    return data.reshape(shape).astype(np.float16 if data.ndim > 1 else np.float32)


def finished(w, path, tensors):
    for name, data, kind in tensors:
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path.read_bytes()


def models(*files):
    towers = {"llama": lambda w, d: [], "tinyvlm": tower_and_pooling, "fastvlm": fastvit, "smolvlm": siglip,
              "qwen3": lambda w, d: []}
    for path, arch in files:
        w = gguf.GGUFWriter(str(CORPUS / f"{path}.gguf"), arch)
        n_vocab = vocabulary(w, FRAMES if arch == "smolvlm" else ())
        tensors = towers[arch](w, 32)
        tensors += decoder(w, arch, n_vocab, 32, 32, arch == "tinyvlm")
        if path == "quantize/pytorch":
            tensors = [(n, as_pytorch(n, data) if kind is None else data, kind) for n, data, kind in tensors]
        finished(w, CORPUS / f"{path}.gguf", tensors)


NAMES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "vocab.json", "merges.txt",
         "added_tokens.json", "1.safetensors", "model.safetensors.index.json", "chat_template.jinja", "2.safetensors",
         "preprocessor_config.json", "chat_template.json", "special_tokens_map.json", "mmproj.gguf", "text.gguf"]  # fuzz_convert.c's


def packed(files):
    return b"".join(bytes([NAMES.index(name)]) + struct.pack("<I", len(data)) + data for name, data in files.items())


def tokenizer_json():
    vocab = {token: i for i, token in enumerate(byte_tokens() + ["th", "the"])}
    added = [{"id": 258 + i, "content": text, "special": True} for i, text in enumerate(["<|im_start|>", "<|im_end|>"])]
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return {"added_tokens": added, "normalizer": None, "pre_tokenizer": level,
            "model": {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e"]}}


def decoder_tensors(d, ff, bias):
    t = {"model.embed_tokens.weight": weights(262, d), "model.norm.weight": weights(d)}
    layer = "model.layers.0."
    for name in ("input_layernorm", "post_attention_layernorm"):
        t[f"{layer}{name}.weight"] = weights(d)
    for name, n, k in (("self_attn.q_proj", d, d), ("self_attn.k_proj", d // 2, d), ("self_attn.v_proj", d // 2, d),
                       ("self_attn.o_proj", d, d), ("mlp.gate_proj", ff, d), ("mlp.up_proj", ff, d),
                       ("mlp.down_proj", d, ff)):
        t[f"{layer}{name}.weight"] = weights(n, k)
        if bias and name[-6] in "qkv" and "self" in name:
            t[f"{layer}{name}.bias"] = weights(n)
    return {name: data.astype(np.float16) for name, data in t.items()}


def checkpoints():
    """A llama in one file with tokenizer.json, a qwen2 in two shards with vocab.json and merges.txt."""
    config = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "num_key_value_heads": 1, "vocab_size": 262, "hidden_act": "silu", "rms_norm_eps": 1e-5,
              "rope_theta": 1e4, "max_position_embeddings": 64, "eos_token_id": 259}
    tokenizer = tokenizer_json()
    text = {key: json.dumps(value).encode() for key, value in {
        "llama": {**config, "model_type": "llama"}, "qwen2": {**config, "model_type": "qwen2"},
        "tokenizer": tokenizer, "vocab": tokenizer["model"]["vocab"],
        "added": {"<|im_start|>": 258, "<|im_end|>": 259}, "settings": {"eos_token": "<|im_end|>"}}.items()}
    (CORPUS / "convert" / "llama").write_bytes(packed({
        "config.json": text["llama"], "tokenizer.json": text["tokenizer"], "tokenizer_config.json": text["settings"],
        "model.safetensors": save(decoder_tensors(32, 32, False))}))
    tensors = decoder_tensors(32, 32, True)
    shards = {f"{i}.safetensors": dict(list(tensors.items())[i - 1::2]) for i in (1, 2)}
    index = {"weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (CORPUS / "convert" / "qwen2").write_bytes(packed({
        "config.json": text["qwen2"], "vocab.json": text["vocab"], "merges.txt": b"#version: 0.2\nt h\nth e\n",
        "added_tokens.json": text["added"], **{name: save(part) for name, part in shards.items()},
        "model.safetensors.index.json": json.dumps(index).encode()}))


def llama_cpp_pair(folder):
    """The smolvlm above as llama.cpp's two files."""
    text, mmproj = gguf.GGUFWriter(folder / "text", "llama"), gguf.GGUFWriter(folder / "mmproj", "clip")
    tensors = decoder(text, "llama", vocabulary(text, FRAMES), 32, 32, False)
    mmproj.add_type("mmproj")
    mmproj.add_clip_has_vision_encoder(True)
    mmproj.add_clip_projector_type("idefics3")
    mmproj.add_vision_use_gelu(True)
    for key, value in {"projection_dim": 32, "image_size": 32, "preproc_image_size": 64, "patch_size": 8,
                       "embedding_length": 16, "feed_forward_length": 24, "block_count": 1,
                       "attention.head_count": 2, "projector.scale_factor": 2}.items():
        mmproj.add_uint32(f"clip.vision.{key}", value)
    mmproj.add_vision_attention_layernorm_eps(1e-6)
    mmproj.add_vision_image_mean([0.5] * 3)
    mmproj.add_vision_image_std([0.5] * 3)
    tower = [(name, data.reshape(16, 3, 8, 8) if name == "v.patch_embd.weight" else data, kind)
             for name, data, kind in siglip(gguf.GGUFWriter(folder / "unused", "clip"), 32)]
    (CORPUS / "convert" / "pair").write_bytes(packed({"mmproj.gguf": finished(mmproj, folder / "mmproj", tower),
                                                      "text.gguf": finished(text, folder / "text", tensors)}))


def edits(indices):
    """For fuzz_gguf_run.c: each of its models as it is, and with a random edit of every kind."""
    for model in indices:
        (CORPUS / "gguf_run" / f"{model}").write_bytes(bytes([model]))
        edit = [struct.pack("<BHHQ", kind, *RANDOM.integers(0, 65536, 2), RANDOM.integers(0, 256)) for kind in range(7)]
        (CORPUS / "gguf_run" / f"{model}-edited").write_bytes(bytes([model]) + b"".join(edit))


def main():
    for name in ("gguf", "gguf_run", "image", "convert", "quantize"):
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
    pictures()
    models(("gguf/llama", "llama"), ("gguf/tinyvlm", "tinyvlm"), ("quantize/pytorch", "tinyvlm"))
    checkpoints()
    models(("gguf/fastvlm", "fastvlm"))
    edits(range(5))
    models(("gguf/qwen3", "qwen3"), ("gguf/smolvlm", "smolvlm"))
    edits((5, 6))
    with tempfile.TemporaryDirectory() as folder:
        llama_cpp_pair(Path(folder))
    seed = CORPUS / "gguf" / "tinyvlm.gguf"
    for kind, bound in (("int8", 1000), ("mixed", 0.3)):
        subprocess.run([sys.argv[1], "quantize", seed, seed.with_name(f"tinyvlm-{kind}.gguf"), "--type", "int8", "--calibrate",
                        ROOT / "examples" / "photos", "--max-layer-error", str(bound), "--quiet"], check=True)


if __name__ == "__main__":
    main()
