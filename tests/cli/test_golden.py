# SPDX-License-Identifier: MIT
"""Converted checkpoints, run by dump, against the tensors of the reference implementation."""

import json
import shutil
import struct
import subprocess
import sys

import gguf
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from conftest import GOLDEN, LAYOUTS, PICTURE, ROOT, convert, ok, refused

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
@pytest.mark.parametrize("family", ["smolvlm", "smolvlm2"])
def test_smolvlm_sizes(tmp_path, family, crop):
    want, model = load_file(GOLDEN / f"golden_{family}.safetensors"), tmp_path / "m.gguf"
    image, out = tmp_path / "crop.png", tmp_path / "out.safetensors"
    Image.open(PICTURE).convert("RGB").crop(CROPS[crop]).save(image)
    ok("convert", GOLDEN / family, model, "--type", "f32", "--tokenizer", GOLDEN / "smolvlm")
    ok("dump", "--model", model, "--image", image, "--prompt", PROMPT, "-o", out)
    have = load_file(out)
    assert error(have["bridge_out"], want[f"bridge_out.{crop}"]) < 1e-5
    assert error(have["logits"][-1:], want[f"logits.{crop}"]) < 2e-5
    for name in ("input_ids", "generated_ids"):
        assert have[name].tolist() == want[f"{name}.{crop}"].tolist()


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


def llama_cpp(tmp_path, folder, *options, name="pair"):
    """llama.cpp's files of a checkpoint: text model, mmproj."""
    text, mmproj = tmp_path / f"{name}.gguf", tmp_path / f"mmproj-{name}.gguf"
    command = [sys.executable, ROOT / "tools" / "oracle" / "make_llama_cpp.py", folder, text, *options]
    subprocess.run([*command, *([] if "qwen3" in str(folder) else ["--mmproj", mmproj])], check=True)
    return text, mmproj


def edited(path, key, value):
    field = gguf.GGUFReader(path, "r+").fields[key]
    field.parts[field.data[0]][0] = value


def test_qwen3_of_llama_cpp(tmp_path):
    want, out = load_file(GOLDEN / "golden_qwen3.safetensors"), tmp_path / "out.safetensors"
    text, _ = llama_cpp(tmp_path, GOLDEN / "qwen3", "--tokenizer", GOLDEN / "tiny")
    ok("dump", "--model", text, "--template", "qwen3", "--prompt", PROMPT, "-o", out)
    have = load_file(out)
    assert error(have["logits"], want["logits"]) < 2e-5
    for name in ("input_ids", "generated_ids"):
        assert have[name].tolist() == want[name].tolist()


def deeper(folder):
    """The tiny SmolVLM with images of up to 4 x 4 frames, as all released ones have them."""
    shutil.copytree(GOLDEN / "smolvlm", folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    last = max(tokenizer["added_tokens"], key=lambda t: t["id"])
    marks = [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5) if 4 in (i, j)]
    tokenizer["added_tokens"] += [{**last, "id": last["id"] + 1 + i, "content": m} for i, m in enumerate(marks)]
    path.write_text(json.dumps(tokenizer))
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": {"longest_edge": 192}}))
    return folder


@pytest.mark.parametrize("options", [[], ["--swapped"], ["--swapped", "--no-split-size"]])
def test_smolvlm_of_llama_cpp(tmp_path, options):
    """The pair of files is the same model as the checkpoint, to the last bit."""
    folder = deeper(tmp_path / "checkpoint") if len(options) == 2 else GOLDEN / "smolvlm"
    text, mmproj = llama_cpp(tmp_path, folder, *options)
    ok("convert", folder, tmp_path / "folder.gguf", "--type", "f32", "-q")
    done = ok("convert", text, tmp_path / "joined.gguf", "--mmproj", mmproj)
    assert ("192 pixels are taken" in done.err) == (len(options) == 2)
    want, have = dump(tmp_path, tmp_path / "folder.gguf"), dump(tmp_path, tmp_path / "joined.gguf")
    assert want.keys() == have.keys()
    for name, value in want.items():
        assert value.tobytes() == have[name].tobytes(), name


@pytest.mark.parametrize("kind,most", [("f16", 1e-3), ("q8_0", 0.08)])
def test_smolvlm_of_llama_cpp_types(tmp_path, kind, most):
    """Weights keep their types and bytes."""
    want, joined = load_file(GOLDEN / "golden_smolvlm.safetensors"), tmp_path / "joined.gguf"
    files = llama_cpp(tmp_path, GOLDEN / "smolvlm", "--type", kind)
    ok("convert", files[0], joined, "--mmproj", files[1], "-q")
    have = {t.name: t for t in gguf.GGUFReader(joined).tensors}
    theirs = [t for f in files for t in gguf.GGUFReader(f).tensors]
    assert len(have) == len(theirs) and kind.upper() in {t.tensor_type.name for t in theirs}
    for t in theirs:
        assert t.tensor_type == have[t.name].tensor_type and t.data.tobytes() == have[t.name].data.tobytes(), t.name
    assert error(dump(tmp_path, joined)["logits"], want["logits"]) < most
    smaller = tmp_path / "smaller.gguf"
    ok("quantize", joined, smaller, "--type", "q4_0", "-q")
    ok("info", "--model", smaller)


def test_smolvlm_of_llama_cpp_epsilon(tmp_path):
    """llama.cpp's own default is kept, and told."""
    text, mmproj = llama_cpp(tmp_path, GOLDEN / "smolvlm")
    edited(mmproj, "clip.vision.attention.layer_norm_epsilon", 1e-5)
    done = ok("convert", text, tmp_path / "m.gguf", "--mmproj", mmproj)
    assert "epsilon of 1e-05 is kept" in done.err
    want = load_file(GOLDEN / "golden_smolvlm.safetensors")["vision_tokens"]
    assert 2e-6 < error(dump(tmp_path, tmp_path / "m.gguf")["vision_tokens"], want) < 1e-4


PAIR_FAULTS = [
    ("clip.vision.image_size", 0, "'clip.vision.image_size': 0 is not in"),
    ("clip.vision.image_size", 200, "'clip.vision.image_size': the positions of 25 patches"),
    ("clip.vision.image_size", 4096, "pair.gguf: key 'clip.vision.preproc_image_size': 128 is not in"),
    ("clip.vision.patch_size", 4, "tensor 'v.patch_embd.weight'"),
    ("clip.vision.patch_size", 65, "'clip.vision.patch_size': 65 is not in"),
    ("clip.vision.embedding_length", 0xFFFFFFFF, "'clip.vision.embedding_length'"),
    ("clip.vision.feed_forward_length", 65, "'v.blk.0.ffn_up.weight'"),
    ("clip.vision.block_count", 3, "tensor 'v.blk.2.ln1.weight'"),
    ("clip.vision.block_count", 1, "tensor 'v.blk.1."),
    ("clip.vision.attention.head_count", 3, "'vision.siglip.head_count': 3 heads of 32"),
    ("clip.vision.attention.layer_norm_epsilon", float("nan"), "'clip.vision.attention.layer_norm_epsilon'"),
    ("clip.vision.projector.scale_factor", 4, "'vision.image_size': 48 is no multiple of 4 patches"),
    ("clip.vision.projection_dim", 64, "'clip.vision.projection_dim': 64, and 'llama.embedding_length' of"),
    ("clip.vision.preproc_image_size", 5000, "'clip.vision.preproc_image_size': 5000 is not in"),
    ("clip.use_gelu", False, "'clip.use_gelu': only true is supported"),
]


def test_faults_of_pairs(tmp_path):
    text, mmproj = llama_cpp(tmp_path, GOLDEN / "smolvlm", "--type", "f16")
    qwen3, _ = llama_cpp(tmp_path, GOLDEN / "qwen3", "--tokenizer", GOLDEN / "tiny", name="qwen3")
    good, bad, out = mmproj.read_bytes(), tmp_path / "bad-pair.gguf", tmp_path / "out.gguf"

    def says(message, code=3, first=text, second=bad):
        refused(code, message, "convert", first, out, "--mmproj", second, "-q")
        assert not out.exists()

    for key, value, message in PAIR_FAULTS:
        bad.write_bytes(good)
        edited(bad, key, value)
        says(message)
    for old, new, message in (
        (b"idefics3", b"idefics9", "'clip.projector_type': 'idefics9' is not supported; 'idefics3' (SmolVLM) is"),
        (b"general.file_type", b"clip.vision.extra", "key 'clip.vision.extra': not known of a projector 'idefics3'"),
        (b"v.post_ln.bias", b"v.post_ln.bios", "bad-pair.gguf: tensor 'v.post_ln.bi"),
        (b"clip.use_gelu", b"clip.use_gelo", "key 'clip.use_gelo': not known"),
    ):
        bad.write_bytes(good.replace(old, new))
        says(message)
    bad.write_bytes(good[:-64])
    says("bad-pair.gguf: the file is truncated")
    bad.write_bytes(good)
    gguf.GGUFReader(bad, "r+").tensors[5].data.flat[3] = np.nan
    says("contains NaN or infinity")
    says("key 'general.architecture': 'llama' is not supported", second=text)
    says("key 'general.type': 'mmproj' is not a model: join it with its text model", first=mmproj, second=text)
    says("its projector 'idefics3' needs a text model of architecture 'llama'", first=qwen3, second=mmproj)
    says("none.gguf: cannot open", second=tmp_path / "none.gguf")
    for option in (["--type", "q8_0"], ["--fit", "crop"], ["--tokenizer", GOLDEN / "tiny"]):
        refused(2, "--mmproj keeps the types", "convert", text, out, "--mmproj", mmproj, *option)
    refused(2, "", "convert", text, mmproj, "--mmproj", mmproj)
    assert mmproj.read_bytes() == good


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
