#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a checkpoint as llama.cpp's convert_hf_to_gguf.py does: a text model and, of one that sees, its mmproj.

    python3 tools/oracle/make_llama_cpp.py DIR TEXT.gguf [--mmproj FILE] [--type f32|f16|q8_0]

    --tokenizer DIR   where DIR has none
    --pre NAME        tokenizer.ggml.pre (default qwen2)
    --swapped         the two matrices of the tower's MLP under each other's name, as older files have them
    --no-split-size   no size of images before they are split, as in older files

Qwen3 and SmolVLM (idefics3, smolvlm) in bfloat16. Names of keys and tensors are those of the `gguf` package,
which is llama.cpp's own.
"""
import argparse
import json
import pathlib
import struct

import gguf
import numpy as np

FILE_TYPES = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16,
              "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
TYPES = {name: gguf.GGMLQuantizationType[name.upper()] for name in FILE_TYPES}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_tensors(path):
    """{name: float32 array} of a safetensors file in bfloat16, which numpy has not."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:end]).items():
        if name != "__metadata__":
            first, last = t["data_offsets"]
            bits = np.frombuffer(data[end + first : end + last], "<u2").astype("<u4") << 16
            out[name] = bits.view("<f4").reshape(t["shape"])
    return out


def add(writer, name, values, kind):
    """Norms and biases stay float32, as does what a block does not divide."""
    kind = TYPES[kind if values.ndim > 1 and values.shape[-1] % 32 == 0 else "f32"]
    if kind == gguf.GGMLQuantizationType.Q8_0:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, values.astype(np.float16 if kind == gguf.GGMLQuantizationType.F16 else np.float32))


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def permute(w, heads):
    """Rotary pairs from halves to neighbours, as GGUF files of llama have them."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(w.shape)


def add_tokenizer(writer, folder, pre, rows):
    tokenizer, settings = read_json(folder / "tokenizer.json"), read_json(folder / "tokenizer_config.json")
    tokens = {i: (t, gguf.TokenType.NORMAL) for t, i in tokenizer["model"]["vocab"].items()}
    tokens |= {t["id"]: (t["content"], gguf.TokenType.CONTROL if t["special"] else gguf.TokenType.USER_DEFINED)
               for t in tokenizer["added_tokens"]}
    texts = [tokens.get(i, (f"[PAD{i}]", gguf.TokenType.UNUSED)) for i in range(rows)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([t for t, _ in texts])
    writer.add_token_types([kind for _, kind in texts])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    ids = {t: i for i, (t, _) in tokens.items()}
    for key, put in (("eos_token", writer.add_eos_token_id), ("pad_token", writer.add_pad_token_id)):
        if settings.get(key) in ids:
            put(ids[settings[key]])
    writer.add_add_bos_token(False)


def write_text(a, config, tensors):
    arch = gguf.MODEL_ARCH.QWEN3 if config["model_type"] == "qwen3" else gguf.MODEL_ARCH.LLAMA
    writer = gguf.GGUFWriter(a.text, gguf.MODEL_ARCH_NAMES[arch])
    heads, kv_heads, dim = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    writer.add_type("model")
    writer.add_name("Tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_file_type(FILE_TYPES[a.type])
    writer.add_vocab_size(config["vocab_size"])
    if arch == gguf.MODEL_ARCH.LLAMA:
        writer.add_rope_dimension_count(dim)
    add_tokenizer(writer, a.tokenizer or a.folder, a.pre, config["vocab_size"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for name, values in tensors.items():
        if name.startswith(("model.vision_model.", "model.connector.")):
            continue
        if arch == gguf.MODEL_ARCH.LLAMA and name.endswith(("q_proj.weight", "k_proj.weight")):
            values = permute(values, heads if "q_proj" in name else kv_heads)
        add(writer, names.get_name(name.replace("text_model.", ""), (".weight", ".bias")), values, a.type)
    finish(writer)


def write_mmproj(a, config, tensors):
    writer = gguf.GGUFWriter(a.mmproj, "clip")
    vision, images = config["vision_config"], read_json((a.tokenizer or a.folder) / "preprocessor_config.json")
    writer.add_type("mmproj")
    writer.add_name("Tiny")
    writer.add_file_type(FILE_TYPES[a.type])
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(config["text_config"]["hidden_size"])
    writer.add_vision_image_size(vision["image_size"])
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["num_hidden_layers"])
    writer.add_vision_head_count(vision["num_attention_heads"])
    writer.add_vision_image_mean(images["image_mean"])
    writer.add_vision_image_std(images["image_std"])
    writer.add_clip_projector_type(gguf.VisionProjectorType.IDEFICS3)
    writer.add_vision_attention_layernorm_eps(vision["layer_norm_eps"])
    writer.add_vision_projector_scale_factor(config["scale_factor"])
    writer.add_vision_use_gelu(True)
    if not a.no_split_size:
        writer.add_vision_preproc_image_size(images["size"]["longest_edge"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision["num_hidden_layers"])
    for name, values in tensors.items():
        if name.startswith(("model.vision_model.", "model.connector.")):
            new = names.get_name(name, (".weight", ".bias"))
            if a.swapped and ".ffn_" in new:
                new = new.replace("up", "down") if "up" in new else new.replace("down", "up")
            add(writer, new, values, "f32" if ".embeddings." in name else a.type)
    finish(writer)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("text")
    p.add_argument("--mmproj")
    p.add_argument("--tokenizer", type=pathlib.Path)
    p.add_argument("--type", choices=FILE_TYPES, default="f32")
    p.add_argument("--pre", default="qwen2")
    p.add_argument("--swapped", action="store_true")
    p.add_argument("--no-split-size", action="store_true")
    a = p.parse_args()
    config, tensors = read_json(a.folder / "config.json"), read_tensors(a.folder / "model.safetensors")
    write_text(a, config.get("text_config", config), tensors)
    if a.mmproj:
        write_mmproj(a, config, tensors)


main()
