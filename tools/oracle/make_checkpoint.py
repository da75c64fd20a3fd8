#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes FastVLM checkpoints with random weights, at any size, and the reference's results for them.

    python3 tools/oracle/make_checkpoint.py OUT [--preset tiny|0.5b] [--layout hf|apple] [OPTIONS]

    --image N --layers A,B,C,D,E --dims A,B,C,D,E --mlp N      vision tower
    --hidden N --lm-layers N --heads N --kv-heads N --ff N --vocab N     decoder
    --tokenizer DIR     copied into OUT (default: the tiny one, or Qwen2's with --preset 0.5b)
    --log-normal        log-normal channel gains; activations reach 6e4 late in the tower, as with
                        the published weights
    --golden FILE       tensors of a run on --picture with --prompt, named as `tinyvlm dump` does
    --seed N

Needs torch, transformers and timm (PyPI); whose modules compute the reference, in float32 from the
weights as stored (bfloat16). Batch norms get the statistics of a test picture, so that activations
stay of order one at any depth. Then, for example,

    tinyvlm convert OUT m.gguf --type f32
    tinyvlm dump -m m.gguf --image PICTURE -p "Describe the image." -o mine.safetensors
    python3 tools/oracle/compare.py golden.safetensors mine.safetensors
"""
import argparse
import json
import os
import shutil

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer, FastVlmConfig, FastVlmForConditionalGeneration

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DATA = os.path.join(ROOT, "tests", "data")
PRESETS = {
    "tiny": dict(image=128, layers="1,2,2,2,1", dims="8,16,32,64,128", mlp=4, hidden=64, lm_layers=3,
                 heads=4, kv_heads=2, ff=160, vocab=576, tokenizer=os.path.join(DATA, "golden", "tiny")),
    "0.5b": dict(image=1024, layers="2,12,24,4,2", dims="96,192,384,768,1536", mlp=4, hidden=896,
                 lm_layers=24, heads=14, kv_heads=2, ff=4864, vocab=151936,
                 tokenizer=os.path.join(DATA, "tokenizer", "qwen2")),
}
LARGEST = 6e4  # |activation| late in the published towers


def numbers(text):
    return tuple(int(v) for v in str(text).split(","))


def make_config(a):
    dims = numbers(a.dims)
    return FastVlmConfig(
        text_config=dict(model_type="qwen2", hidden_size=a.hidden, intermediate_size=a.ff,
                         num_hidden_layers=a.lm_layers, num_attention_heads=a.heads,
                         num_key_value_heads=a.kv_heads, vocab_size=a.vocab, rms_norm_eps=1e-6,
                         max_position_embeddings=32768, tie_word_embeddings=False,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        vision_config=dict(model_type="timm_wrapper", architecture="fastvit_mci3", do_pooling=True,
                           global_pool="avg", hidden_size=2 * dims[-1], initializer_range=0.02,
                           model_args=dict(inference_mode=True, layers=list(numbers(a.layers)),
                                           embed_dims=list(dims), mlp_ratios=[a.mlp] * len(dims))),
        image_token_id=a.vocab - 1, image_seq_length=(a.image // 64) ** 2, tie_word_embeddings=False)


# ---- weights ----

def randomise(model, a, generator):
    """Variance-preserving weights, small biases, identity-like mixers."""
    def normal(p, std, mean=0.0):
        p.data.copy_(torch.randn(p.shape, generator=generator) * std + mean)

    for name, p in model.named_parameters():
        if "layer_scale" in name:
            spread = torch.randn(p.shape, generator=generator) * (1.0 if a.log_normal else 0.2)
            p.data.copy_(0.3 * spread.exp())
        elif p.ndim <= 1:
            normal(p, 0.1, 1.0 if name.endswith("norm.weight") or ".bn.weight" in name else 0.0)
        elif name.endswith("embed_tokens.weight"):
            normal(p, 1.0)
        else:
            normal(p, p[0].numel() ** -0.5)
        if name.endswith(("token_mixer.reparam_conv.weight", "pos_emb.reparam_conv.weight")):
            p.data *= 0.3
            p.data[:, 0, p.shape[2] // 2, p.shape[3] // 2] += 1.0
        if a.log_normal and ("downsample.proj.1" in name or "final_conv.reparam_conv" in name):
            gains = (0.8 * torch.randn(p.shape[0], generator=generator)).exp()
            p.data *= gains.view(-1, *[1] * (p.ndim - 1))


def tower_of(model):
    return model.model.vision_tower.timm_model


def calibrate(model, pixels, generator):
    """Each batch norm gets, a little off, the statistics of what reaches it."""
    def hook(bn, inputs):
        x = inputs[0]
        jitter = torch.randn(2, bn.num_features, generator=generator)
        std = x.var((0, 2, 3)).clamp_min(1e-6).sqrt()
        bn.running_mean.copy_(x.mean((0, 2, 3)) + 0.1 * std * jitter[0])
        bn.running_var.copy_((std * (0.1 * jitter[1]).exp()) ** 2)
    norms = [m for m in tower_of(model).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    hooks = [bn.register_forward_pre_hook(hook) for bn in norms]
    tower_of(model).forward_features(pixels)
    for h in hooks:
        h.remove()


def largest_after(model, module, pixels):
    found = {}
    handle = module.register_forward_hook(lambda m, i, o: found.update(v=o.abs().max().item()))
    tower_of(model).forward_features(pixels)
    handle.remove()
    return found["v"]


def grow(model, pixels, generator):
    """Scales the last stage's input so that its residual stream reaches LARGEST, with its blocks'
    contributions in proportion, and the expansion behind it back to order one."""
    tower = tower_of(model)
    last, conv = tower.stages[-1], tower.stages[-1].downsample.proj[1].reparam_conv
    for _ in range(3):
        ratio = LARGEST / largest_after(model, last.pos_emb, pixels)
        conv.weight.data *= ratio
        conv.bias.data *= ratio
    for block in last.blocks:
        block.layer_scale_1.gamma.data *= LARGEST / 30
        block.layer_scale_2.gamma.data *= LARGEST / 30
    calibrate(model, pixels, generator)
    for _ in range(3):
        ratio = 10 / largest_after(model, tower.final_conv, pixels)
        tower.final_conv.reparam_conv.weight.data *= ratio
        tower.final_conv.reparam_conv.bias.data *= ratio


# ---- the checkpoint ----

def apple_name(name, has_pos):
    """Hugging Face's name -> Apple's. Stages, downsamplings and position encodings are numbered in
    one row there: network.I."""
    plain = {"model.multi_modal_projector.linear_1": "model.mm_projector.0",
             "model.multi_modal_projector.linear_2": "model.mm_projector.2",
             "model.language_model": "model"}
    for have, want in plain.items():
        if name.startswith(have + "."):
            return want + name[len(have):]
    prefix = "model.vision_tower.timm_model."
    if not name.startswith(prefix):
        return name
    parts = name[len(prefix):].split(".")
    if parts[0] == "stages":
        stage = int(parts[1])
        base = 2 * stage + sum(has_pos[:stage])
        if parts[2] == "downsample":
            parts = ["network", str(base - 1)] + parts[3:]
            if parts[2:4] == ["proj", "0"]:
                parts[4] = "lkb_reparam"
        elif parts[2] == "pos_emb":
            parts = ["network", str(base)] + parts[3:]
        else:
            parts = ["network", str(base + has_pos[stage])] + parts[3:]
    names = {"stem": "patch_embed", "final_conv": "conv_exp", "mlp": "convffn"}
    parts = [names.get(p, p) for p in parts]
    if "se" in parts:
        parts = [{"fc1": "reduce", "fc2": "expand"}.get(p, p) for p in parts]
    if parts[-1] == "gamma":
        parts.pop()
    return "model.vision_tower.vision_tower.model." + ".".join(parts)


def apple_config(a):
    return {"architectures": ["LlavaQwen2ForCausalLM"], "model_type": "llava_qwen2",
            "hidden_size": a.hidden, "intermediate_size": a.ff, "num_hidden_layers": a.lm_layers,
            "num_attention_heads": a.heads, "num_key_value_heads": a.kv_heads, "vocab_size": a.vocab,
            "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e6,
            "max_position_embeddings": 32768, "mm_vision_tower": f"mobileclip_l_{a.image}",
            "mm_hidden_size": 2 * numbers(a.dims)[-1], "mm_projector_type": "mlp2x_gelu",
            "mm_patch_merge_type": "flat", "image_aspect_ratio": "pad", "use_sliding_window": False,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16"}


def save(model, config, a):
    os.makedirs(a.out, exist_ok=True)
    # what inference never reads stays out: the classifier, whose place the projector takes
    tensors = {k: v for k, v in model.state_dict().items() if ".timm_model.head." not in k}
    has_pos = [not isinstance(s.pos_emb, torch.nn.Identity) for s in tower_of(model).stages]
    if a.layout == "apple":
        tensors = {apple_name(k, has_pos): v for k, v in tensors.items()}
        with open(os.path.join(a.out, "config.json"), "w", encoding="utf-8") as f:
            json.dump(apple_config(a), f, indent=1)
    else:
        config.save_pretrained(a.out)
    tensors = {k: v.to(torch.bfloat16 if v.is_floating_point() else v.dtype).contiguous()
               for k, v in tensors.items()}
    save_file(tensors, os.path.join(a.out, "model.safetensors"), {"format": "pt"})
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        path = os.path.join(a.tokenizer, name)
        if os.path.exists(path):
            shutil.copy(path, a.out)


# ---- the reference's run ----

def preprocess(path, size):
    image = Image.open(path).convert("RGB")
    n = max(image.size)
    canvas = Image.new("RGB", (n, n), (0, 0, 0))
    canvas.paste(image, ((n - image.width) // 2, (n - image.height) // 2))
    rgb = np.asarray(canvas.resize((size, size), Image.BICUBIC)).astype(np.float64) * (1 / 255)
    return torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None].contiguous()


def prompt_ids(a, image_token, n_image):
    """The picture's place as -200 in the first list, as n_image tokens in the second."""
    tokenizer = AutoTokenizer.from_pretrained(a.tokenizer)
    def encode(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]
    before = encode("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    after = encode(f"\n{a.prompt}<|im_end|>\n<|im_start|>assistant\n")
    return before + [-200] + after, before + [image_token] * n_image + after


def run(model, config, a):
    pixels = preprocess(a.picture, a.image)
    features = tower_of(model).forward_features(pixels)
    tokens = features.flatten(2).permute(0, 2, 1)
    bridge = model.model.multi_modal_projector(tokens)
    marked, ids = prompt_ids(a, config.image_token_id, tokens.shape[1])
    ids = torch.tensor([ids])
    embeds = model.get_input_embeddings()(ids)
    embeds[ids == config.image_token_id] = bridge[0]
    logits = model.lm_head(model.model.language_model(inputs_embeds=embeds).last_hidden_state)[0]
    known = len(AutoTokenizer.from_pretrained(a.tokenizer))
    generated, step = [], embeds
    for i in range(a.new_tokens):
        hidden = model.model.language_model(inputs_embeds=step).last_hidden_state[:, -1]
        last = model.lm_head(hidden)[0] if i else logits[-1]
        generated.append(int(last[:known].argmax()))
        step = torch.cat([step, model.get_input_embeddings()(torch.tensor([[generated[-1]]]))], 1)
    out = {"pixel_values": pixels[0], "vision_tokens": tokens[0], "bridge_out": bridge[0],
           "logits": logits, "input_ids": torch.tensor(marked, dtype=torch.int32),
           "generated_ids": torch.tensor(generated, dtype=torch.int32)}
    save_file({k: v.contiguous() for k, v in out.items()}, a.golden)


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("out")
    p.add_argument("--preset", choices=PRESETS, default="tiny")
    p.add_argument("--layout", choices=["hf", "apple"], default="hf")
    for name in PRESETS["tiny"]:
        kind = str if name in ("layers", "dims", "tokenizer") else int
        p.add_argument("--" + name.replace("_", "-"), type=kind)
    p.add_argument("--log-normal", action="store_true")
    p.add_argument("--golden")
    p.add_argument("--picture", default=os.path.join(DATA, "golden", "image_100x150.png"))
    p.add_argument("--prompt", default="Describe the image.")
    p.add_argument("--new-tokens", type=int, default=24)
    p.add_argument("--seed", type=int, default=20251122)
    a = p.parse_args()
    for name, value in PRESETS[a.preset].items():
        if getattr(a, name) is None:
            setattr(a, name, value)
    return a


@torch.no_grad()
def main():
    a = parse()
    generator = torch.Generator().manual_seed(a.seed)
    config = make_config(a)
    model = FastVlmForConditionalGeneration(config).eval().float()
    randomise(model, a, generator)
    pixels = preprocess(a.picture, min(a.image, 256))  # a small one gives the same statistics
    calibrate(model, pixels, generator)
    if a.log_normal:
        grow(model, pixels, generator)
    # as stored: rotary tables are no part of the checkpoint and stay exact
    model.load_state_dict({k: v.to(torch.bfloat16).to(v.dtype) if v.is_floating_point() else v
                           for k, v in model.state_dict().items()})
    save(model, config, a)
    last = tower_of(model).stages[-1]
    print(f"largest activations: last stage in {largest_after(model, last.pos_emb, pixels):.3g}, "
          f"out {largest_after(model, last, pixels):.3g}")
    if a.golden:
        run(model, config, a)


main()
