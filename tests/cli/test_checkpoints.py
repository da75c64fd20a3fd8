# SPDX-License-Identifier: MIT
"""Folders that convert cannot take: the message says what they are and what to do."""

import json
import shutil

import pytest

from conftest import GOLDEN, ok, refused

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 988097824\n"
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 1,
    "num_attention_heads": 4, "max_position_embeddings": 64,
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def says(folder, message, code=3):
    done = refused(code, message, "convert", folder, folder.parent / "out.gguf")
    assert str(folder) in done.err
    assert not (folder.parent / "out.gguf").exists()


@pytest.mark.parametrize("names, message", [
    (["config.json", "pytorch_model.bin"], "PyTorch weights (pytorch_model.bin)"),
    (["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "safe_serialization=True"),
    (["model.pth"], "PyTorch weights (model.pth)"),
    (["consolidated.00.pth", "params.json"], "layout of the model's makers (consolidated.00.pth)"),
    (["consolidated.safetensors", "params.json"], "get the Hugging Face form"),
    (["adapter_config.json", "adapter_model.safetensors"], "a LoRA adapter (adapter_config.json)"),
    (["qwen2-q4_0.gguf", "config.json"], "a GGUF file (qwen2-q4_0.gguf), which needs no conversion"),
    (["config.json", "tf_model.h5"], "TensorFlow weights (tf_model.h5)"),
    (["config.json", "flax_model.msgpack"], "Flax weights"),
    (["config.json", "weights.npz"], "MLX weights (weights.npz)"),
    (["config.json", "model.onnx"], "an ONNX export (model.onnx)"),
    (["config.json", "onnx/model.onnx"], "an ONNX export (onnx/)"),
    (["refs/main", "snapshots/abc/config.json"], "give the folder below its 'snapshots'"),
    (["config.json", "model-00001-of-00002.safetensors"], "without model.safetensors.index.json"),
    (["config.json", "weights.safetensors"], "'weights.safetensors' in it, but no model.safetensors"),
    (["config.json", "Model.safetensors"], "'Model.safetensors' in it must be named 'model.safetensors'"),
    (["Config.json", "model.safetensors"], "'Config.json' in it must be named 'config.json'"),
    (["model.safetensors"], "no config.json there"),
    (["config.json", "README.md"], "no model.safetensors and no model.safetensors.index.json in it"),
    ([], "an empty folder"),
])
def test_what_a_folder_is(folder, names, message):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    says(folder, message)


def test_files(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    says(tmp_path / "m.gguf", "a GGUF file, which needs no conversion")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    says(tmp_path / "model.safetensors", "give the folder that has it")
    says(tmp_path / "none", "no such folder")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
                                  "chat_template.jinja"])
def test_git_lfs_pointers(folder, name):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / name).write_bytes(LFS)
    says(folder, f"{name}: it is a Git LFS pointer, not the file itself: run 'git lfs pull'")


def test_git_lfs_pointer_of_merges(folder):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / "tokenizer.json").unlink()
    (folder / "merges.txt").write_bytes(LFS)
    says(folder, "merges.txt: it is a Git LFS pointer")


def weights(folder, names):
    header = {n: {"dtype": "F16", "shape": [1], "data_offsets": [2 * i, 2 * i + 2]} for i, n in enumerate(names)}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(2 * len(names)))


@pytest.mark.parametrize("tensor, message", [
    ("model.layers.0.self_attn.q_proj.qweight", "quantised already"),
    ("model.layers.0.self_attn.q_proj.scales", "quantised already"),
    ("model.layers.0.self_attn.q_proj.weight.absmax", "quantised already"),
    ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "LoRA adapter"),
])
def test_tensors_of_other_kinds(folder, tensor, message):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    weights(folder, ["model.embed_tokens.weight", tensor])
    refused(3, message, "convert", folder, folder.parent / "out.gguf")


@pytest.mark.parametrize("key, value", [
    ("quantization_config", {"quant_method": "awq", "bits": 4}), ("quantization", {"group_size": 64, "bits": 4}),
    ("attention_bias", True), ("mlp_bias", True), ("hidden_act", "gelu"), ("partial_rotary_factor", 0.5),
    ("logits_scaling", 8.0), ("final_logit_softcapping", 30.0), ("use_sliding_window", True),
    ("layer_types", ["full_attention", "sliding_attention"]), ("embedding_multiplier", 12), ("num_experts", 8),
    ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}), ("rope_scaling", {"type": "default", "mrope_section": [1]}),
    ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}), ("use_qk_norm", True),
])
def test_settings_that_are_not_computed(folder, key, value):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, key: value}))
    names = {"rope_scaling": "rope_type" if "factor" in str(value) else "mrope_section",
             "rope_parameters": "partial_rotary_factor"}
    says(folder, f"key '{names.get(key, key)}'")


def test_neutral_settings(folder):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    config.update(attention_bias=False, mlp_bias=False, sliding_window=None, use_sliding_window=False, rope_scaling=None,
                  partial_rotary_factor=1.0, logit_scale=1.0, final_logit_softcapping=None, attention_dropout=0.0,
                  layer_types=["full_attention"] * config["num_hidden_layers"])
    (folder / "config.json").write_text(json.dumps(config))
    ok("convert", folder, folder.parent / "out.gguf")


def test_missing_shard(folder):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    says(folder, "model-00001-of-00002.safetensors")


TEMPLATE = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
            " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
OTHER = "{{ bos_token }}" + TEMPLATE


@pytest.mark.parametrize("config, files, name", [
    (TEMPLATE, {}, "chatml"),
    ([{"name": "tool_use", "template": OTHER}, {"name": "default", "template": TEMPLATE}], {}, "chatml"),
    ([{"name": "tool_use", "template": TEMPLATE}], {}, ""),
    (None, {"chat_template.json": json.dumps({"chat_template": TEMPLATE})}, "chatml"),
    (None, {"chat_template.jinja": TEMPLATE.replace("\n", "\r\n")}, "chatml"),
    (TEMPLATE, {"chat_template.jinja": OTHER}, ""),
    (OTHER, {"chat_template.jinja": TEMPLATE}, "chatml"),
    (OTHER, {}, ""),
    (TEMPLATE.replace("['role']", "['role'] | upper"), {}, ""),
])
def test_where_templates_are(folder, config, files, name):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    llama = {**CONFIG, **json.loads((GOLDEN / "tiny" / "config.json").read_text()), "model_type": "qwen2"}
    (folder / "config.json").write_text(json.dumps(llama))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["chat_template"] = config
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    for file, text in files.items():
        (folder / file).write_bytes(text.encode())
    text_only(folder)
    out = folder.parent / "out.gguf"
    ok("convert", folder, out)
    assert ok("info", "--json", "-m", out).json()[0]["chat_template"] == name
    if not name:
        refused(3, "not recognised: name one (--template NAME", "chat", "-m", out, stdin=b"Hi\n")


def test_a_template_does_not_end_at_a_zero(folder):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / "chat_template.jinja").write_bytes(TEMPLATE.encode() + b"\0{{ more }}")
    says(folder, "chat_template.jinja: it has a zero byte")


def text_only(folder):
    """Leaves the language model of the vision model in the folder."""
    raw = (folder / "model.safetensors").read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    kept, data = {}, b""
    for name, entry in json.loads(raw[8:begin]).items():
        if name == "__metadata__" or "vision" in name or "mm_projector" in name:
            continue
        part = raw[begin + entry["data_offsets"][0]:begin + entry["data_offsets"][1]]
        kept[name] = {**entry, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    header = json.dumps(kept).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)


@pytest.mark.parametrize("flag, text, plain", [
    ("lstrip", "a <|im_end|>a", "a<|im_end|>a"), ("rstrip", "a<|im_end|> a", "a<|im_end|>a"),
])
def test_flags_of_added_tokens_reach_the_model(folder, flag, text, plain):
    shutil.copytree(GOLDEN / "tiny", folder, dirs_exist_ok=True)
    (folder / "tokenizer_config.json").unlink()
    out = folder.parent / "out.gguf"
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for on in (False, True):
        tokenizer["added_tokens"][2][flag] = on
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        ok("convert", folder, out)
        ids = [ok("tokenize", "-m", out, t).out for t in (text, plain)]
        assert (ids[0] == ids[1]) == on
