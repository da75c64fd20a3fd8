"""Writes a trained run as one GGUF file, and golden tensors for checking an engine against it.

  python export.py --run RUN --out tiny-vlm-25m-f32.gguf [--golden golden.safetensors --image a.jpg]"""

import argparse
import os

import gguf
import numpy as np
import torch
from PIL import Image

import model as tiny
import tokenizer as tok
import tower
from data import CAPTION_PROMPT

CHAT_TEMPLATE = ("{% for message in messages %}{% if message['role'] == 'user' %}"
                 "{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}"
                 "{% else %}{{ ' ' + message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}")
LICENCE = {"all": "research-only weights (see the model card)", "permissive": "apache-2.0"}
DESCRIPTION = {
    "all": "Research weights: EfficientNet-Lite0 and SmolLM2-135M-Instruct layers (both Apache-2.0) "
           "trained on Flickr8k, COCO, DAQUAR and ImageNet sample pictures (non-commercial research "
           "terms) and on permissive pictures (tf_flowers, trashnet, COCO CC BY).",
    "permissive": "EfficientNet-Lite0 and SmolLM2-135M-Instruct layers (both Apache-2.0) trained on "
                  "tf_flowers (CC BY 2.0), trashnet (MIT) and COCO pictures under CC BY."}


def load_run(run):
    """-> (network, tokenizer, tokens, merges, config), from model.pt or the last checkpoint."""
    path = os.path.join(run, "model.pt")
    if not os.path.exists(path):
        path = os.path.join(run, "last.pt")
    saved = torch.load(path, weights_only=True)
    tokens, merges, _ = tok.load(os.path.join(run, "vocab.json"))
    net = tiny.TinyVLM(len(tokens), len(tiny.VARIANTS[saved["config"]["variant"]]))
    net.load_state_dict(saved["model"])
    return net.eval(), tok.build(tokens, merges), tokens, merges, saved["config"]


def write_gguf(path, net, tokens, merges, config):
    w = gguf.GGUFWriter(path, "tinyvlm")
    w.data_alignment = 64
    w.add_uint32("general.alignment", 64)
    w.add_string("general.name", f"Tiny-VLM-{config['variant'].upper()}")
    w.add_string("general.license", LICENCE[config["data"]])
    w.add_string("general.description", DESCRIPTION[config["data"]])
    for key, value in {"block_count": len(net.blk), "context_length": tiny.CONTEXT,
                       "embedding_length": tiny.D, "feed_forward_length": tiny.FF,
                       "attention.head_count": tiny.HEADS, "attention.head_count_kv": tiny.KV_HEADS,
                       "vocab_size": len(tokens), "pool.head_count": tiny.HEADS}.items():
        w.add_uint32("tinyvlm." + key, value)
    w.add_float32("tinyvlm.attention.layer_norm_rms_epsilon", tiny.RMS_EPS)
    w.add_float32("tinyvlm.rope.freq_base", tiny.ROPE_THETA)
    w.add_float32("tinyvlm.pool.layer_norm_epsilon", tiny.LN_EPS)
    w.add_string("tinyvlm.chat_template", "tinyvlm")
    w.add_string("tinyvlm.describe_prompt", CAPTION_PROMPT)
    w.add_string("vision.tower", "efficientnet_lite")
    w.add_uint32("vision.image_size", tower.SIZE)
    w.add_string("vision.preprocess.mode", "squash")
    w.add_string("vision.preprocess.filter", "bicubic")
    for key, value in (("scale", 1 / 128), ("bias", -127 / 128)):
        w.add_key_value(f"vision.preprocess.{key}", [value] * 3, gguf.GGUFValueType.ARRAY,
                        sub_type=gguf.GGUFValueType.FLOAT64)
    w.add_array("vision.efficientnet.strides", tower.STRIDES)
    w.add_uint32("vision.efficientnet.stem_stride", tower.STEM_STRIDE)
    w.add_array("vision.efficientnet.taps", [tower.TAP])
    w.add_string("tokenizer.ggml.model", "gpt2")
    w.add_string("tokenizer.ggml.pre", "smollm")
    w.add_token_list(tokens)
    w.add_token_types([3 if t in tok.SPECIALS else 1 for t in tokens])
    w.add_token_merges(merges)
    w.add_uint32("tokenizer.ggml.bos_token_id", tokens.index(tok.START))
    w.add_uint32("tokenizer.ggml.eos_token_id", tokens.index(tok.END))
    w.add_bool("tokenizer.ggml.add_bos_token", False)
    w.add_string("tokenizer.chat_template", CHAT_TEMPLATE)

    def put(name, tensor):
        w.add_tensor(name, np.ascontiguousarray(tensor.detach().float().numpy()))

    for name, t in tower.load().items():  # tower, pooling, embeddings, layers: the loader's order
        if name.startswith("v."):
            if ".dw." in name and t.dim() == 4:
                t = t[:, 0]
            elif t.dim() == 4 and t.shape[-1] == 1:
                t = t[:, :, 0, 0]
            put(name, t)
    for name, t in net.pool.state_dict().items():
        put("mm.pool." + name, t)
    put("token_embd.weight", net.token_embd.weight)
    for i, layer in enumerate(net.blk):
        for name, t in layer.state_dict().items():
            put(f"blk.{i}.{name}", t)
    put("output_norm.weight", net.output_norm.weight)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


@torch.no_grad()
def write_golden(path, net, tokenizer, image_path, question):
    from safetensors.torch import save_file
    u8 = tower.pixels(Image.open(image_path))
    x = tower.normalise(u8)[None]
    lo, hi = tower.forward(tower.load(), x.permute(0, 3, 1, 2))
    visual = net.pool(hi, lo)
    out = {"pixels": torch.from_numpy(u8.copy()), "pixel_values": x[0], "lo": lo[0], "hi": hi[0],
           "vision_tokens": net.pool.tokens(hi, lo)[0], "bridge_out": visual[0]}
    for name, q in (("describe", CAPTION_PROMPT), ("ask", question)):
        ids = tok.prompt_ids(tokenizer, q)
        logits = net.logits(net(torch.tensor([ids]), visual, torch.tensor([0])))[0]
        out[name + ".input_ids"] = torch.tensor(ids, dtype=torch.int32)
        out[name + ".logits"] = logits
        out[name + ".generated_ids"] = torch.tensor(
            net.generate([ids], visual, tokenizer.token_to_id(tok.END), 24)[0], dtype=torch.int32)
    save_file({k: v.contiguous() for k, v in out.items()}, path,
              metadata={"image": os.path.basename(image_path), "question": question})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--golden")
    p.add_argument("--image")
    p.add_argument("--question", default="Is there a person in the picture?")
    args = p.parse_args()
    net, tokenizer, tokens, merges, config = load_run(args.run)
    write_gguf(args.out, net, tokens, merges, config)
    if args.golden:
        write_golden(args.golden, net, tokenizer, args.image, args.question)


if __name__ == "__main__":
    main()
