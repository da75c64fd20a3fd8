#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seeds of the fuzz targets safetensors and tokenizer_json under tests/fuzz/corpus.

    python3 tools/oracle/make_corpus.py [CORPUS]        (standard library only)
"""
import json
import os
import struct
import sys

SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "I32": 4, "U8": 1, "I8": 1, "BOOL": 1}
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write(out, name, data):
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)


def safetensors(tensors, metadata=None, pad=True):
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, (dtype, shape) in tensors.items():
        n = SIZES[dtype]
        for d in shape:
            n *= d
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    return struct.pack("<Q", len(text)) + text + bytes(i * 37 % 256 for i in range(at))


def make_safetensors(out):
    every = {f"t.{d}": (d, [3, 2]) for d in SIZES}
    sets = {
        "every": (every,),
        "none": ({},),
        "metadata": ({"a": ("F32", [4])}, {"format": "pt"}),
        "scalar": ({"bn.num_batches_tracked": ("I64", []), "w": ("BF16", [2, 1, 3, 3])},),
        "empty": ({"a": ("F32", [0, 7]), "b": ("F32", [2]), "c": ("U8", [0])},),
        "deep": ({"a": ("U8", [1, 2, 1, 2, 1, 2, 1, 2])},),
        "odd": ({"a": ("U8", [3]), "b": ("F64", [2])}, None, False),
        "many": ({f"model.layers.{i}.weight": ("F16", [i % 3 + 1, 2]) for i in range(20)},),
        "escaped": ({'a"\\b\u00e9\n': ("I8", [5])},),
        "long": ({"x" * 200: ("F32", [1])}, {"a": "b" * 100}),
    }
    for name, arguments in sets.items():
        write(out, name, safetensors(*arguments))
    write(out, "bad_gap", bytes(safetensors({"a": ("U8", [3])})) + b"!")
    write(out, "bad_length", struct.pack("<Q", 1 << 63) + b"{}")
    write(out, "bad_deep", struct.pack("<Q", 40000) + b"[" * 20000 + b"]" * 20000)


def vocabulary(words):
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in own]
    letters = [chr(b) for b in own] + [chr(256 + i) for i in range(len(rest))]
    return {w: i for i, w in enumerate(letters + words)}


def pre_tokenizer(kind):
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": kind != "qwen2"}
    if kind == "gpt2":
        return byte_level
    first = ({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
             if kind == "qwen2" else {"type": "Digits", "individual_digits": True})
    return {"type": "Sequence", "pretokenizers": [first, byte_level]}


def tokenizer(kind, pairs=False, hole=0, **model):
    merges = ["t h", "th e", "a b", "\u0120 the"]
    vocab = vocabulary([m.replace(" ", "") for m in merges])
    added = [{"id": len(vocab) + hole + i, "content": s, "special": i != 1, "lstrip": i == 2}
             for i, s in enumerate(SPECIALS)]
    return {
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if kind == "qwen2" else None,
        "pre_tokenizer": pre_tokenizer(kind),
        "model": {"type": "BPE", "vocab": vocab,
                  "merges": [m.split(" ") for m in merges] if pairs else merges, **model},
        "config": {"eos_token": "<|im_end|>", "bos_token": {"content": "<|im_start|>"},
                   "chat_template": "{{ messages }}", "add_bos_token": True,
                   "added_tokens_decoder": {str(len(vocab) + hole): {"content": SPECIALS[0],
                                                                     "special": True}}},
    }


def config(**more):
    return {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": [2, 3],
            **more}


def make_json(out):
    plain = {
        "qwen2": tokenizer("qwen2"),
        "smollm": tokenizer("smollm", pairs=True),
        "gpt2": tokenizer("gpt2", hole=3),
        "bad_merges": tokenizer("gpt2", ignore_merges=True),
        "bad_model": {"model": {"type": "Unigram", "vocab": []}},
        "config_apple": config(model_type="llava_qwen2", mm_vision_tower="mobileclip_l_1024",
                               mm_projector_type="mlp2x_gelu", rope_theta=1e6),
        "config_hf": {"model_type": "fast_vlm", "image_seq_length": 256, "image_token_index": 7,
                      "text_config": config(model_type="qwen2",
                                            rope_parameters={"rope_theta": 1e6,
                                                             "rope_type": "default"}),
                      "vision_config": {"model_type": "timm_wrapper"},
                      "preprocessor": {"size": {"shortest_edge": 256}, "resample": 3,
                                       "crop_size": {"height": 256, "width": 256},
                                       "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 1, 1]}},
        "config_qwen2": config(model_type="qwen2", head_dim=16),
        "config_llama": config(model_type="llama", rope_scaling=None, attention_bias=False),
        "bad_rope": config(model_type="llama", rope_scaling={"rope_type": "llama3", "factor": 8}),
    }
    for name, value in plain.items():
        write(out, name, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def main():
    corpus = sys.argv[1] if len(sys.argv) > 1 else "tests/fuzz/corpus"
    make_safetensors(os.path.join(corpus, "safetensors"))
    make_json(os.path.join(corpus, "tokenizer_json"))


main()
