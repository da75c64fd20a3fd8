#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tiny checkpoints of a model family with random weights, and transformers' results for them.

    python3 tools/oracle/make_family.py qwen3 OUT --golden FILE

    --tokenizer DIR     default: tests/data/golden/tiny; its files are not copied
    --prompt TEXT       rendered with the family's chat template
    --new-tokens N --seed N

Needs torch and transformers (PyPI). The reference runs in float32 from the weights as stored
(bfloat16). Tensors are named as `tinyvlm dump` names them.
"""
import argparse
import os

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
GOLDEN = os.path.join(ROOT, "tests", "data", "golden")


# ---- families: model, chat template ----

def qwen3():
    """Heads that are together wider than the rows, two query heads a key head, tied embeddings."""
    config = Qwen3Config(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=32, vocab_size=576, max_position_embeddings=4096,
                         rms_norm_eps=1e-6, tie_word_embeddings=True,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    return Qwen3ForCausalLM(config), lambda prompt: f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


FAMILIES = {"qwen3": qwen3}


# ---- weights ----

def randomise(model, generator):
    """Variance-preserving matrices, small biases, norms about one; as stored, in bfloat16."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            noise = 0.2 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif name.endswith("embed_tokens.weight"):
            pass
        else:
            noise *= p[0].numel() ** -0.5
        p.data.copy_(noise.to(torch.bfloat16))


def save(model, a):
    os.makedirs(a.out, exist_ok=True)
    model.config.save_pretrained(a.out)
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()
               if not (k == "lm_head.weight" and model.config.get_text_config().tie_word_embeddings)}
    save_file(tensors, os.path.join(a.out, "model.safetensors"), {"format": "pt"})


# ---- the reference's run ----

def generate(model, tokenizer, ids, a):
    """Logits of the prompt, and the greedy continuation among ids that the tokenizer has."""
    known, out, logits = len(tokenizer), list(ids), None
    for _ in range(a.new_tokens):
        step = model(input_ids=torch.tensor([out]), use_cache=False).logits[0]
        logits = step if logits is None else logits
        out.append(int(step[-1, :known].argmax()))
    return {"input_ids": torch.tensor(ids, dtype=torch.int32), "logits": logits,
            "generated_ids": torch.tensor(out[len(ids):], dtype=torch.int32)}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("family", choices=FAMILIES)
    p.add_argument("out")
    p.add_argument("--golden", required=True)
    p.add_argument("--tokenizer", default=os.path.join(GOLDEN, "tiny"))
    p.add_argument("--prompt", default="Describe the image.")
    p.add_argument("--new-tokens", type=int, default=24)
    p.add_argument("--seed", type=int, default=20251127)
    return p.parse_args()


@torch.no_grad()
def main():
    a = parse()
    model, render = FAMILIES[a.family]()
    model = model.eval().float()
    randomise(model, torch.Generator().manual_seed(a.seed))
    save(model, a)
    tokenizer = AutoTokenizer.from_pretrained(a.tokenizer)
    ids = tokenizer(render(a.prompt), add_special_tokens=False)["input_ids"]
    save_file({k: v.contiguous() for k, v in generate(model, tokenizer, ids, a).items()}, a.golden)


main()
