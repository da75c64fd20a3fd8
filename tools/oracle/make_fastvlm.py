"""Makes FastVLM checkpoints with random weights, in the Hugging Face layout, from transformers and timm.

  python tools/oracle/make_fastvlm.py OUT [--size tiny|0.5b] [--log-normal] [--golden] [--image-size S]

OUT/: config.json, model.safetensors (bfloat16), the tokenizer files of tests/data (tiny's, or Qwen2's).
--log-normal gives the last stage's channels log-normal gains, scaled so that its activations reach 6e4
on the test picture, as real weights do. --golden writes OUT/golden.safetensors: pixel_values,
vision_tokens, projector_out, input_ids (-200 for the picture), logits, generated_ids, in float32 from
the bfloat16 weights, for

  tinyvlm convert OUT m.gguf --type f32
  tinyvlm dump -m m.gguf --image tests/data/golden/image_100x150.png -p "Describe the image." -o d.safetensors

Needs PyPI torch, transformers, timm, pillow, safetensors."""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import FastVlmConfig, FastVlmForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
SIZES = {
    "tiny": dict(layers=[1, 2, 2, 2, 1], dims=[8, 16, 32, 64, 128], image=128, tokenizer=DATA / "golden" / "tiny",
                 text=dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                           intermediate_size=160, vocab_size=576)),
    "0.5b": dict(layers=[2, 12, 24, 4, 2], dims=[96, 192, 384, 768, 1536], image=1024, tokenizer=DATA / "tokenizer" / "qwen2",
                 text=dict(hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
                           intermediate_size=4864, vocab_size=152000)),
}


def build(size, image):
    """The model with seeded weights in bfloat16 precision, float32 storage."""
    tokens = (image // 64) ** 2
    config = FastVlmConfig(
        text_config=dict(model_type="qwen2", rms_norm_eps=1e-6, max_position_embeddings=32768,
                         rope_parameters={"rope_type": "default", "rope_theta": 1e6},
                         tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, **size["text"]),
        vision_config=dict(model_type="timm_wrapper", architecture="fastvit_mci3", do_pooling=True,
                           global_pool="avg", hidden_size=2 * size["dims"][-1], initializer_range=0.02,
                           model_args=dict(inference_mode=True, layers=size["layers"], embed_dims=size["dims"],
                                           mlp_ratios=[4] * 5)),
        image_token_id=size["text"]["vocab_size"] - 1, image_seq_length=tokens, projector_hidden_act="gelu",
        multimodal_projector_bias=True, tie_word_embeddings=False)
    torch.manual_seed(20251122)
    model = FastVlmForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            if "inv_freq" in name:  # computed, not a weight
                continue
            if "running_var" in name:
                p.uniform_(0.5, 1.5)
            elif "running_mean" in name or name.endswith("bias"):
                p.normal_(0, 0.05)
            elif "gamma" in name:
                p.uniform_(0.2, 0.6)
            elif p.dim() == 4:
                p.normal_(0, (p.shape[1] * p.shape[2] * p.shape[3]) ** -0.5)
            elif p.dim() == 2:
                p.normal_(0, p.shape[1] ** -0.5)
            elif p.is_floating_point():
                p.uniform_(0.8, 1.2)
            if p.is_floating_point():
                p.copy_(p.bfloat16().float())
    return model


def preprocess(path, size):
    """As Apple's predict.py: pad to a black square, Pillow bicubic, /255."""
    image = Image.open(path).convert("RGB")
    n = max(image.size)
    square = Image.new("RGB", (n, n))
    square.paste(image, ((n - image.size[0]) // 2, (n - image.size[1]) // 2))
    u8 = np.asarray(square if n == size else square.resize((size, size), Image.BICUBIC))
    return torch.from_numpy((u8.astype(np.float64) * (1 / 255)).astype(np.float32).transpose(2, 0, 1))


def tower_of(model):
    return model.model.vision_tower.timm_model


@torch.no_grad()
def log_normal(model, pixels, target=6e4):
    """Gains on the last downsampling's output channels; the largest activation becomes target."""
    layer = tower_of(model).stages[-1].downsample.proj[1].reparam_conv
    gains = torch.exp(torch.randn(layer.weight.shape[0], generator=torch.Generator().manual_seed(5)) * 1.5)
    most = []
    hook = tower_of(model).stages[-1].downsample.register_forward_hook(lambda m, i, o: most.append(float(o.abs().max())))
    layer.weight.mul_(gains[:, None, None, None])
    layer.bias.mul_(gains)
    model.model.get_image_features(pixels[None])
    layer.weight.mul_(target / most[-1]).copy_(layer.weight.bfloat16().float())
    layer.bias.mul_(target / most[-1]).copy_(layer.bias.bfloat16().float())
    model.model.get_image_features(pixels[None])
    hook.remove()
    print(f"largest activation of the last stage's input: {most[-1]:.0f}")


@torch.no_grad()
def golden(model, pixels, prompt_ids, image_id, new_tokens=24):
    tower = {}
    hook = tower_of(model).register_forward_hook(lambda m, i, o: tower.__setitem__("out", o))
    grids = []
    exp = tower_of(model).final_conv.register_forward_hook(lambda m, i, o: grids.append(o))
    features = model.model.get_image_features(pixels[None])
    features = features.pooler_output if hasattr(features, "pooler_output") else features
    features = features[0] if isinstance(features, (list, tuple)) else features
    hook.remove()
    exp.remove()
    vision = grids[-1].flatten(2).transpose(1, 2)[0]
    ids = []
    for i in prompt_ids:
        ids += [image_id] * features.reshape(-1, features.shape[-1]).shape[0] if i == -200 else [i]
    ids = torch.tensor([ids])
    logits = model(input_ids=ids, pixel_values=pixels[None]).logits[0]
    generated = []
    for _ in range(new_tokens):
        step = model(input_ids=torch.cat([ids, torch.tensor([generated], dtype=torch.long)], 1),
                     pixel_values=pixels[None]).logits[0, -1]
        step[image_id:] = float("-inf")
        generated.append(int(step.argmax()))
    return {"pixel_values": pixels, "vision_tokens": vision, "projector_out": features.reshape(-1, features.shape[-1]),
            "input_ids": torch.tensor(prompt_ids), "logits": logits, "generated_ids": torch.tensor(generated)}


def prompt_of(folder):
    """The ids of the qwen_2 template around "Describe the image.", chunks apart."""
    from tokenizers import Tokenizer
    path = folder / "tokenizer.json"
    if not path.exists():
        return None
    t = Tokenizer.from_file(str(path))
    before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    after = "\nDescribe the image.<|im_end|>\n<|im_start|>assistant\n"
    return t.encode(before).ids + [-200] + t.encode(after).ids


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", type=Path)
    p.add_argument("--size", choices=SIZES, default="tiny")
    p.add_argument("--image-size", type=int)
    p.add_argument("--log-normal", action="store_true")
    p.add_argument("--golden", action="store_true")
    args = p.parse_args()
    size = SIZES[args.size]
    image = args.image_size or size["image"]
    args.out.mkdir(parents=True, exist_ok=True)
    model = build(size, image)
    pixels = preprocess(DATA / "golden" / "image_100x150.png", image)
    if args.log_normal:
        log_normal(model, pixels)
    state = {k: v.bfloat16().contiguous() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    if "lm_head.weight" not in state:
        raise SystemExit("the output matrix is tied: not as in FastVLM")
    save_file({k: v.clone() for k, v in state.items()}, str(args.out / "model.safetensors"))
    config = model.config.to_dict()
    (args.out / "config.json").write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        if (size["tokenizer"] / name).exists():
            shutil.copy(size["tokenizer"] / name, args.out / name)
    if args.golden:
        ids = prompt_of(size["tokenizer"])
        if ids is None:
            raise SystemExit("--golden needs a tokenizer.json")
        save_file({k: v.contiguous() for k, v in golden(model, pixels, ids, size["text"]["vocab_size"] - 1).items()},
                  str(args.out / "golden.safetensors"))


if __name__ == "__main__":
    main()
