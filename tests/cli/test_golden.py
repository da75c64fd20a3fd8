# SPDX-License-Identifier: MIT
"""Converted checkpoints, run by dump, against the tensors of the reference implementation."""

import json
import struct

import gguf
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from conftest import GOLDEN, LAYOUTS, PICTURE, convert, ok, refused

PROMPT = "Describe the image."


def error(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    assert a.shape == b.shape
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def dump(tmp_path, model, *options):
    out = tmp_path / "out.safetensors"
    ok("dump", "--model", model, "--image", PICTURE, "--prompt", PROMPT, "-o", out, *options)
    return load_file(out)


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "golden_tiny_128.safetensors")


@pytest.mark.parametrize("cpu", ["scalar", "best"])
@pytest.mark.parametrize("layout", ["tiny", "tiny_hf"])
def test_golden(tmp_path, models, golden, layout, cpu):
    tier = ["--cpu", cpu] if cpu != "best" else []
    have = dump(tmp_path, models[layout], "--new-tokens", 24, *tier)
    assert all(v.dtype == (np.int32 if k.endswith("_ids") else np.float32) for k, v in have.items())
    assert np.array_equal(have["pixel_values"], golden["pixel_values"].reshape(3, 128, 128))
    assert error(have["vision_tokens"], golden["vision_tokens"]) < 1e-5
    assert error(have["bridge_out"], golden["projector_out"]) < 1e-5
    assert error(have["logits"], golden["logits"]) < 2e-5
    assert have["input_ids"].tolist() == golden["input_ids"].tolist()
    assert have["generated_ids"].tolist() == golden["generated_ids"].tolist()


def test_other_sizes(tmp_path):
    """Other widths, depths, ratios, heads and picture size than the tiny model's, made by
    tools/oracle/make_checkpoint.py --layout apple --image 192 --layers 1,2,1,1,2 --dims 4,8,16,32,64
    --mlp 3 --hidden 48 --heads 6 --kv-heads 3 --ff 72 --lm-layers 2 --vocab 600"""
    want, model = load_file(GOLDEN / "golden_other.safetensors"), tmp_path / "other.gguf"
    convert("other", model, "--type", "f32")
    have = dump(tmp_path, model)
    for name, most in (("vision_tokens", 1e-5), ("bridge_out", 1e-5), ("logits", 2e-5)):
        assert error(have[name], want[name]) < most, name
    for name in ("input_ids", "generated_ids"):
        assert have[name].tolist() == want[name].tolist()


def test_qwen3(tmp_path):
    """Norms of queries and keys, heads wider than the rows: tools/oracle/make_family.py qwen3."""
    want, model = load_file(GOLDEN / "golden_qwen3.safetensors"), tmp_path / "qwen3.gguf"
    out = tmp_path / "out.safetensors"
    convert("qwen3", model, "--type", "f32")
    for cpu in ([], ["--cpu", "scalar"]):
        ok("dump", "--model", model, "--template", "qwen3", "--prompt", PROMPT, "-o", out, *cpu)
        have = load_file(out)
        assert error(have["logits"], want["logits"]) < 2e-5
        for name in ("input_ids", "generated_ids"):
            assert have[name].tolist() == want[name].tolist()


@pytest.mark.parametrize("family", ["smolvlm", "smolvlm2"])
def test_smolvlm(tmp_path, family):
    """Split images, frames of the prompt, SigLIP and pixel shuffle: tools/oracle/make_family.py."""
    want, model = load_file(GOLDEN / f"golden_{family}.safetensors"), tmp_path / "m.gguf"
    ok("convert", GOLDEN / family, model, "--type", "f32", "--tokenizer", GOLDEN / "smolvlm")
    for cpu in ([], ["--cpu", "scalar", "--threads", "3"]):
        have = dump(tmp_path, model, *cpu)
        assert np.array_equal(have["pixel_values"], want["pixel_values"])
        for name, most in (("vision_tokens", 1e-5), ("bridge_out", 1e-5), ("logits", 2e-5)):
            assert error(have[name], want[name]) < most, name
        for name in ("input_ids", "generated_ids"):
            assert have[name].tolist() == want[name].tolist()


# those of make_family.py: wide, tall, square, one pixel, 3 x 1 frames and 3 x 2
CROPS = [(0, 0, 100, 20), (40, 0, 49, 150), (0, 25, 100, 125), (3, 4, 4, 5), (0, 0, 99, 37), (0, 0, 97, 150)]


@pytest.mark.parametrize("crop", range(len(CROPS)))
def test_smolvlm_sizes(tmp_path, crop):
    want, model = load_file(GOLDEN / "golden_smolvlm.safetensors"), tmp_path / "m.gguf"
    image, out = tmp_path / "crop.png", tmp_path / "out.safetensors"
    Image.open(PICTURE).convert("RGB").crop(CROPS[crop]).save(image)
    ok("convert", GOLDEN / "smolvlm", model, "--type", "f32")
    ok("dump", "--model", model, "--image", image, "--prompt", PROMPT, "-o", out, "--new-tokens", 0)
    have = load_file(out)
    assert have["input_ids"].tolist() == want[f"input_ids.{crop}"].tolist()
    assert error(have["bridge_out"], want[f"bridge_out.{crop}"]) < 1e-5


def test_smolvlm_unsplit(tmp_path):
    """Squashed to one frame, an image takes one frame of the prompt."""
    model, out = tmp_path / "m.gguf", tmp_path / "out.safetensors"
    ok("convert", GOLDEN / "smolvlm", model, "--type", "f32")
    ok("dump", "--model", model, "--image", PICTURE, "--fit", "squash", "--prompt", PROMPT, "-o", out)
    ok("quantize", model, tmp_path / "q8.gguf", "--type", "q8_0", "-q")
    ok("info", "--model", tmp_path / "q8.gguf")
    have = load_file(out)
    assert have["pixel_values"].shape == (3, 48, 48)
    assert have["input_ids"].tolist().count(-200) == 1 and have["bridge_out"].shape == (9, 48)
    refused(3, "'<fake_token_around_image>'", "convert", GOLDEN / "smolvlm", model, "--tokenizer", GOLDEN / "tiny", "-q")


def test_training_form_tower(tmp_path, models):
    want = load_file(GOLDEN / "golden_tiny_unfused.safetensors")
    assert (
        error(dump(tmp_path, models["tiny_unfused"])["vision_tokens"], want["vision_tokens"]) < 1e-5
    )


def test_threads_do_not_change_bits(tmp_path, model):
    runs = [dump(tmp_path, model, "--threads", n) for n in (1, 2, 7)]
    for other in runs[1:]:
        for name, value in runs[0].items():
            assert value.tobytes() == other[name].tobytes(), name


# Rounding alone, on weights of this size; f32 is exact to 2e-6. Q4_0 on random weights is coarse.
@pytest.mark.parametrize(
    "kind,most,ratio",
    [("f16", 1e-3, 0.55), ("bf16", 1e-2, 0.55), ("q8_0", 0.08, 0.34), ("q4_0", 0.6, 0.31)],
)
def test_smaller_types(tmp_path, model, golden, kind, most, ratio):
    small = tmp_path / "small.gguf"
    convert("tiny", small, "--type", kind, "--quiet")
    logits = error(dump(tmp_path, small)["logits"], golden["logits"])
    size = small.stat().st_size / model.stat().st_size
    print(f"{kind}: logits error {logits:.2e}, size {size:.2f} of f32")
    assert logits < most and size < ratio


def test_raw_prompt_equals_template(tmp_path, model):
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
        f"{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    )
    out = tmp_path / "raw.safetensors"
    ok("dump", "-m", model, "--image", PICTURE, "--prompt-raw", "-p", text, "-o", out)
    raw, chat = load_file(out), dump(tmp_path, model)
    assert all(np.array_equal(raw[k], chat[k]) for k in chat)


def test_dump_of_text_alone(tmp_path, model):
    out = tmp_path / "text.safetensors"
    ok("dump", "-m", model, "--prompt-raw", "-p", "the the", "-o", out, "--new-tokens", 5)
    have = load_file(out)
    assert sorted(have) == ["generated_ids", "input_ids", "logits"]
    assert have["generated_ids"].shape == (5,)
    assert have["logits"].shape == (len(have["input_ids"]), 576)


def test_no_new_tokens(tmp_path, model):
    assert dump(tmp_path, model, "--new-tokens", 0)["generated_ids"].shape == (0,)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_gguf_tools_open_it(models, layout):
    reader = gguf.GGUFReader(models[layout])
    names = [t.name for t in reader.tensors]
    assert len(names) == 145 and names[0] == "v.stem.0.weight" and names[-1] == "output.weight"
    embd = next(t for t in reader.tensors if t.name == "token_embd.weight")
    source = load_file_bf16(GOLDEN / "tiny" / "model.safetensors", "model.embed_tokens.weight")
    assert np.array_equal(embd.data, source)


def load_file_bf16(path, name):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    entry = json.loads(raw[8 : 8 + n])[name]
    begin, end = (8 + n + x for x in entry["data_offsets"])
    wide = np.frombuffer(raw[begin:end], "<u2").astype(np.uint32) << 16
    return wide.view(np.float32).reshape(entry["shape"])


def test_a_flipped_weight_is_caught(tmp_path, model):
    raw = bytearray(model.read_bytes())
    raw[-100] ^= 4
    bad = tmp_path / "flipped.gguf"
    bad.write_bytes(raw)
    refused(3, "output.weight", "describe", "-m", bad, PICTURE)


def test_a_flipped_header_is_caught(tmp_path, model):
    raw = bytearray(model.read_bytes())
    raw[raw.index(b"fastvlm.context_length") + 26] ^= 4
    bad = tmp_path / "flipped.gguf"
    bad.write_bytes(raw)
    for command in (["describe", "-q", PICTURE, "-m"], ["info"]):
        refused(3, "header", *command, bad)


@pytest.mark.parametrize(
    "damage,message",
    [
        (lambda h: h[: len(h) // 2], "not within the file's"),
        (lambda h: b"\xff" * 8 + h[8:], "header does not end within"),
        (lambda h: h + b"more", "4 bytes at its end belong to no tensor"),
        (
            lambda h: h.replace(b'"model.norm.weight"', b'"model.morn.weight"', 1),
            "no tensor 'model.norm.weight'",
        ),
    ],
)
def test_damaged_checkpoint(tmp_path, damage, message):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((GOLDEN / "tiny" / name).read_bytes())
    raw = (GOLDEN / "tiny" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(damage(raw))
    out = tmp_path / "out.gguf"
    refused(3, message, "convert", tmp_path, out)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_convert_errors(tmp_path):
    out = tmp_path / "x.gguf"
    refused(3, "an empty folder", "convert", tmp_path, out)
    refused(1, "/nonexistent/x.gguf", "convert", GOLDEN / "tiny", "/nonexistent/x.gguf")
    refused(
        2,
        "'q3_x' is not a valid value for option '--type'",
        "convert",
        GOLDEN / "tiny",
        out,
        "--type",
        "q3_x",
    )
    refused(2, "a folder and an output file", "convert", GOLDEN / "tiny")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refused(3, "no model.safetensors", "convert", tmp_path, out)
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(3, "'bert' is not supported; supported: llava_qwen2", "convert", tmp_path, out)
