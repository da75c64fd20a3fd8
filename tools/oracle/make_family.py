#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tiny checkpoints of a model family with random weights, and transformers' results for them.

    python3 tools/oracle/make_family.py qwen3|smolvlm|smolvlm2 OUT --golden FILE [--picture FILE]

    --tokenizer DIR     default: tests/data/golden/tiny; its files are copied for smolvlm alone, with the
                        tokens that images need
    --prompt TEXT       rendered with the family's chat template
    --new-tokens N --seed N

Needs torch and transformers (PyPI). The reference runs in float32 from the weights as stored
(bfloat16). Tensors are named as `tinyvlm dump` names them.
"""
import argparse
import json
import os

import torch
from safetensors.torch import save_file
from PIL import Image
from tokenizers import AddedToken
from transformers import (AutoTokenizer, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor,
                          Qwen3Config, Qwen3ForCausalLM, SmolVLMConfig, SmolVLMForConditionalGeneration)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

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


def smolvlm(kinds=(Idefics3Config, Idefics3ForConditionalGeneration), table=48):
    """Frames of 48 pixels, patches of 8, 2 x 2 shuffled; a longer edge of 128 makes up to 3 x 3 frames."""
    config = kinds[0](
        text_config=dict(model_type="llama", hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                         num_attention_heads=3, num_key_value_heads=1, head_dim=16, vocab_size=640,
                         max_position_embeddings=4096, rms_norm_eps=1e-5,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e5}),
        vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                           image_size=table, patch_size=8),
        scale_factor=2, tie_word_embeddings=False)
    # the released template's rendering of one image and a question
    return kinds[1](config), lambda prompt: f"<|im_start|>User:<image>{prompt}<end_of_utterance>\nAssistant:"


def smolvlm2():
    """The same under its other name, with a table of positions for another grid: 4 x 4 for 6 x 6 patches."""
    return smolvlm((SmolVLMConfig, SmolVLMForConditionalGeneration), 32)


FAMILIES = {"qwen3": qwen3, "smolvlm": smolvlm, "smolvlm2": smolvlm2}
SPLIT = dict(size={"longest_edge": 128}, max_image_size={"longest_edge": 48})
CROPS = [(0, 0, 100, 20), (40, 0, 49, 150), (0, 25, 100, 125), (3, 4, 4, 5), (0, 0, 99, 37), (0, 0, 97, 150)]
MARKS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>",
         *(f"<row_{i}_col_{j}>" for i in range(1, 4) for j in range(1, 4))]


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

def generate(model, tokenizer, ids, call, a):
    """Logits of the prompt, and the greedy continuation among ids that the tokenizer has."""
    known, out, logits = len(tokenizer), list(ids), None
    for _ in range(a.new_tokens):
        step = model(input_ids=torch.tensor([out]), use_cache=False, **call).logits[0]
        logits = step if logits is None else logits
        out.append(int(step[-1, :known].argmax()))
    return {"input_ids": torch.tensor(ids, dtype=torch.int32), "logits": logits,
            "generated_ids": torch.tensor(out[len(ids):], dtype=torch.int32)}


def see(model, tokenizer, prompt, picture):
    """Ids with -200 for the tokens of a frame, what the model is called with, and its frames' features."""
    images = Idefics3ImageProcessorPil(resample=1, image_mean=[0.5] * 3, image_std=[0.5] * 3, **SPLIT)
    length = (48 // 8 // 2) ** 2
    processor = Idefics3Processor(images, tokenizer, image_seq_len=length)
    call = processor(images=[picture], text=prompt, return_tensors="pt")
    image, ids = tokenizer.convert_tokens_to_ids("<image>"), call["input_ids"][0].tolist()
    model.config.image_token_id = model.model.image_token_id = image
    pixels = call["pixel_values"]
    tower = model.model.vision_model(pixel_values=pixels[0], patch_attention_mask=None).last_hidden_state
    bridge = model.model.connector(tower)
    marked = []
    for i, token in enumerate(ids):
        if token != image:
            marked.append(token)
        elif ids[i - 1] != image:
            marked.append(-200)
    frames = pixels[0] if pixels.shape[1] > 1 else pixels[0, 0]
    return marked, ids, {"pixel_values": pixels}, {
        "pixel_values": frames, "vision_tokens": tower.flatten(0, 1), "bridge_out": bridge.flatten(0, 1)}


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("family", choices=FAMILIES)
    p.add_argument("out")
    p.add_argument("--golden", required=True)
    p.add_argument("--tokenizer", default=os.path.join(GOLDEN, "tiny"))
    p.add_argument("--picture", default=os.path.join(GOLDEN, "image_100x150.png"))
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
    prompt, call, out = render(a.prompt), {}, {}
    if a.family == "qwen3":
        ids = marked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    else:
        tokenizer.add_special_tokens({"additional_special_tokens": [
            AddedToken(m, normalized=False, special=True) for m in MARKS]})
        tokenizer.eos_token = "<end_of_utterance>"
        tokenizer.save_pretrained(a.out)
        marked, ids, call, out = see(model, tokenizer, prompt, Image.open(a.picture).convert("RGB"))
        with open(os.path.join(a.out, "preprocessor_config.json"), "w", encoding="utf-8") as f:
            json.dump({"do_image_splitting": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
                       "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 1,
                       "rescale_factor": 1 / 255, **SPLIT}, f, indent=1)
        for i, box in enumerate(CROPS):
            image = Image.open(a.picture).convert("RGB").crop(box)
            marked_i, ids_i, call_i, other = see(model, tokenizer, prompt, image)
            said = generate(model, tokenizer, ids_i, call_i, a)
            out |= {f"input_ids.{i}": torch.tensor(marked_i, dtype=torch.int32), f"bridge_out.{i}": other["bridge_out"],
                    f"logits.{i}": said["logits"][-1:].clone(), f"generated_ids.{i}": said["generated_ids"]}
    out |= generate(model, tokenizer, ids, call, a) | {"input_ids": torch.tensor(marked, dtype=torch.int32)}
    save_file({k: v.contiguous() for k, v in out.items()}, a.golden)


main()
