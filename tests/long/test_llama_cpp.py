# SPDX-License-Identifier: MIT
"""What convert and quantize write, llama.cpp reads: the same ids, near-equal logits, the same next token.

Text models with random weights, embeddings with more rows than there are tokens. llama.cpp rounds
activations to halves or to eight bits where the weights are, so logits differ by that much.
Needs llama-cpp-python (tests/requirements-long.txt), which builds llama.cpp from source."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

llama_cpp = pytest.importorskip("llama_cpp")
from safetensors.numpy import load_file, save_file  # noqa: E402

GOLDEN = pathlib.Path(os.environ["TVLM_TEST_DATA"]) / "golden"
HEADS, KV_HEADS, LAYERS, ROWS = 4, 2, 3, 640
MOST = {"f32": 1e-5, "f16": 5e-3, "bf16": 3e-2, "q8_0": 3e-2, "q4_0": 6e-2,  # relative L2 of logits
        "q4_1": 6e-2, "q5_0": 6e-2, "q5_1": 6e-2, "q4_k": 6e-2, "q5_k": 6e-2, "q6_k": 6e-2}
F32 = 0  # GGML_TYPE_F32: of the cache, as ours is
PROMPTS = [
    "The quick brown fox",
    "<|im_start|>user\nWhat is this, in 1984?<|im_end|>\n<|im_start|>assistant\n",
    "def f(x):\n    return x * 2  # naïve café 日本語 \U0001f600\r\n\n  don't",
]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PRE = {
    "qwen2": None,
    "llama-bpe": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
    "smollm": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
    "gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
}


def tinyvlm(*args):
    done = subprocess.run([os.environ["TVLM_BIN"], *map(str, args)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def checkpoint(folder, arch, tied, pre, d, ff):
    rng, head = np.random.default_rng(7), d // HEADS

    def matrix(n, k):
        return (rng.standard_normal((n, k)) / np.sqrt(k)).astype(np.float32)

    def near(n, middle):
        return (middle + 0.3 * rng.standard_normal(n)).astype(np.float32)

    t = {"model.embed_tokens.weight": matrix(ROWS, d) * 8, "model.norm.weight": near(d, 1)}
    if not tied:
        t["lm_head.weight"] = matrix(ROWS, d)
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        t[p + "input_layernorm.weight"], t[p + "post_attention_layernorm.weight"] = near(d, 1), near(d, 1)
        for name, n in (("q", HEADS * head), ("k", KV_HEADS * head), ("v", KV_HEADS * head)):
            t[f"{p}self_attn.{name}_proj.weight"] = matrix(n, d)
            if arch == "qwen2":
                t[f"{p}self_attn.{name}_proj.bias"] = near(n, 0)
            if arch == "qwen3" and name != "v":
                t[f"{p}self_attn.{name}_norm.weight"] = near(head, 1)
        t[p + "self_attn.o_proj.weight"] = matrix(d, HEADS * head)
        t[p + "mlp.gate_proj.weight"], t[p + "mlp.up_proj.weight"] = matrix(ff, d), matrix(ff, d)
        t[p + "mlp.down_proj.weight"] = matrix(d, ff)
    folder.mkdir()
    save_file(t, folder / "model.safetensors")
    config = {"model_type": arch, "hidden_size": d, "intermediate_size": ff, "num_hidden_layers": LAYERS,
              "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": ROWS, "hidden_act": "silu",
              "rms_norm_eps": 1e-6, "rope_theta": 1e4 if arch == "llama" else 1e6, "max_position_embeddings": 512,
              "tie_word_embeddings": tied, "head_dim": head}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((GOLDEN / "tiny" / "tokenizer.json").read_text())
    if PRE[pre]:
        tokenizer.update(pre_tokenizer=PRE[pre], normalizer=None)
        tokenizer["model"]["ignore_merges"] = pre == "llama-bpe"
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((GOLDEN / "tiny" / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def compare(model, most, tmp_path):
    theirs = llama_cpp.Llama(str(model), n_ctx=256, n_batch=256, n_threads=2, logits_all=True,
                             type_k=F32, type_v=F32, verbose=False)
    assert theirs.n_vocab() == ROWS
    for prompt in PROMPTS:
        out = tmp_path / "dump.safetensors"
        tinyvlm("dump", "-m", model, "--prompt-raw", "-p", prompt, "--new-tokens", 0, "-o", out)
        ours = load_file(out)
        ids = theirs.tokenize(prompt.encode(), add_bos=False, special=True)
        assert ours["input_ids"].tolist() == ids
        theirs.reset()
        theirs.eval(ids)
        want = np.array(theirs.scores[: len(ids)])
        error = np.linalg.norm(ours["logits"] - want) / np.linalg.norm(want)
        a, b = int(ours["logits"][-1].argmax()), int(want[-1].argmax())
        margin = float(want[-1][b] - want[-1][a]) / float(np.abs(want[-1]).max())
        print(f"{model.name}: {len(ids)} ids, logits {error:.1e}, next {a} and {b}, margin {margin:.1e}")
        assert error < most
        assert a == b or margin < most
    theirs.close()


@pytest.mark.parametrize("arch,tied,pre", [("qwen2", False, "qwen2"), ("qwen2", True, "qwen2"), ("qwen3", True, "qwen2"),
                                           ("llama", False, "smollm"), ("llama", True, "gpt-2"),
                                           ("llama", False, "llama-bpe")])
@pytest.mark.parametrize("kind", MOST)
def test_llama_cpp_agrees(tmp_path, arch, tied, pre, kind):
    folder, f32 = tmp_path / "checkpoint", tmp_path / "f32.gguf"
    converted, quantized = tmp_path / "converted.gguf", tmp_path / "quantized.gguf"
    # super-blocks of 256, and rows that they do not divide
    checkpoint(folder, arch, tied, pre, *((256, 352) if kind.endswith("_k") else (64, 160)))
    tinyvlm("convert", "-q", folder, converted, "--type", kind)
    compare(converted, MOST[kind], tmp_path)
    tinyvlm("convert", "-q", folder, f32, "--type", "f32")
    tinyvlm("quantize", "-q", f32, quantized, "--type", kind)
    compare(quantized, MOST[kind], tmp_path)
