# SPDX-License-Identifier: MIT
"""The vision towers of a GGUF file of ours as PyTorch modules: pixels [1][S][S][3], as `tvlm_preprocess` makes them,
-> vision tokens [1][n][width], as `tvlm_image_from_vision` takes them."""

import gguf
import torch
import torch.nn.functional as F
from torch import nn

import tools.coreml.header as header
import train.gguf_file as gguf_file
import train.tower as efficientnet


class Refused(ValueError):
    """The file is not one that can be converted; the message names the key or tensor."""


class File:
    """Keys and float32 tensors; rows of an int8 tower times their scales."""

    def __init__(self, path):
        try:
            header.check(path)
            reader = gguf.GGUFReader(path)
            self.keys = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("tokenizer.")}
        except (ValueError, KeyError, IndexError, TypeError) as e:
            raise Refused(f"'{path}': not a GGUF file that can be read: {e}") from e
        self.stored = {t.name: t for t in reader.tensors}

    def key(self, name, kind, default=None):
        value = self.keys.get(name, default)
        if not isinstance(value, kind):
            raise Refused(f"key '{name}': {'missing' if value is None else f'{value!r} is not as expected'}")
        return value

    def tensor(self, name):
        try:
            return gguf_file.values(self.stored, name)
        except KeyError as e:
            raise Refused(f"tensor {e} is missing") from e


class Weights(nn.Module):
    """Tensors by their names in the file, as buffers of a module."""

    def __init__(self, tensors):
        super().__init__()
        self.names = {name: name.replace(".", "_") for name in tensors}
        for name, t in tensors.items():
            self.register_buffer(self.names[name], t)

    def __getitem__(self, name):
        return getattr(self, self.names[name])

    def __contains__(self, name):
        return name in self.names


def kernel(name, t):
    """As torch has it: [n][c][k][k]. Depthwise kernels are stored as [n][k][k], matrices as [n][c]."""
    if not name.endswith(".weight") or t.dim() == 4:
        return t
    return t[:, None] if t.dim() == 3 else t[:, :, None, None]


def tower_weights(file):
    names = [n for n in file.stored if n.startswith("v.") and n.endswith((".weight", ".bias"))]
    return Weights({n: kernel(n, file.tensor(n)) for n in names})


class EfficientNet(nn.Module):
    """Tiny-VLM's: EfficientNet-Lite0, the first half of its attention pooling and the token of names (src/arch/tinyvlm.c, `see`)."""

    def __init__(self, path, file):
        super().__init__()
        for name, wanted in (("strides", efficientnet.STRIDES), ("stem_stride", efficientnet.STEM_STRIDE),
                             ("taps", [efficientnet.TAP])):
            if file.key("vision.efficientnet." + name, (int, list)) != wanted:
                raise Refused(f"key 'vision.efficientnet.{name}': not EfficientNet-Lite0's")
        self.weights = tower_weights(file)
        net = gguf_file.read(path)[0]
        self.pool, self.names = net.pool, net.names
        self.stride, self.sizes = 32, [efficientnet.SIZE]  # its positions are learned

    def forward(self, pixels):
        lo, hi = efficientnet.forward(self.weights, pixels.permute(0, 3, 1, 2))
        tokens = self.pool.tokens(hi, lo)
        return torch.cat([tokens, self.names.token(self.names.scores(hi).sigmoid())], 1) if self.names else tokens


class FastViT(nn.Module):
    """FastVLM's: FastViTHD, all folds done (src/vision/fastvit.c)."""

    def __init__(self, path, file):
        super().__init__()
        del path
        self.depths = file.key("vision.fastvit.depths", list)
        self.stride, self.sizes = 4 << (len(self.depths) - 1), None
        self.head_dim = file.key("vision.fastvit.head_dim", int, 32)
        self.eps = file.key("vision.fastvit.layer_norm_epsilon", float, 1e-5)
        self.weights = tower_weights(file)

    def conv(self, name, x, stride=1):
        w = self.weights[name + ".weight"]
        return F.conv2d(x, w, self.weights[name + ".bias"], stride, w.shape[-1] // 2, groups=x.shape[1] // w.shape[1])

    def ffn(self, name, x):
        y = F.gelu(self.conv(name + ".ffn_up", self.conv(name + ".ffn_dw", x)))
        return x + self.conv(name + ".ffn_down", y)

    def linear(self, name, x):
        return F.linear(x, self.weights[name + ".weight"][:, :, 0, 0], self.weights[name + ".bias"])

    def attention(self, name, x):
        """x [1][C][H][W]; the norm's affine part and 1 / sqrt(head_dim) are in the weights."""
        rows = F.layer_norm(x.flatten(2).transpose(1, 2), [x.shape[1]], eps=self.eps)
        qkv = self.linear(name + ".attn_qkv", rows).unflatten(2, (3, -1, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = (torch.softmax(q @ k.transpose(-1, -2), -1) @ v).transpose(1, 2).flatten(2)
        return x + self.linear(name + ".attn_output", mixed).transpose(1, 2).reshape(x.shape)

    def block(self, name, x):
        attends = name + ".attn_qkv.weight" in self.weights
        return self.ffn(name, self.attention(name, x) if attends else self.conv(name + ".mixer", x))

    def stage(self, s, x):
        name = f"v.stage.{s}"
        if s:
            x = F.gelu(self.conv(name + ".down.pw", F.gelu(self.conv(name + ".down.dw", x, 2))))
        if name + ".pos.weight" in self.weights:
            x = self.conv(name + ".pos", x)
        for i in range(self.depths[s]):
            x = self.block(f"{name}.blk.{i}", x)
        return x

    def forward(self, pixels):
        x = pixels.permute(0, 3, 1, 2)
        for i, stride in enumerate((2, 2, 1)):
            x = F.gelu(self.conv(f"v.stem.{i}", x, stride))
        for s in range(len(self.depths)):
            x = self.stage(s, x)
        x = self.conv("v.exp.dw", x)
        z = F.relu(self.conv("v.exp.se_reduce", x.mean((2, 3), keepdim=True)))
        return F.gelu(x * torch.sigmoid(self.conv("v.exp.se_expand", z))).flatten(2).transpose(1, 2)


TOWERS = {"efficientnet_lite": EfficientNet, "fastvit": FastViT}


def load(path):
    """-> (tower, file)"""
    file = File(path)
    kind = file.key("vision.tower", str)
    if kind not in TOWERS:
        raise Refused(f"key 'vision.tower': '{kind}' is none of {', '.join(TOWERS)}")
    try:
        return TOWERS[kind](path, file).eval(), file
    except (RuntimeError, KeyError, ValueError) as e:
        raise e if isinstance(e, Refused) else Refused(f"'{path}': its tensors are not a {kind}'s: {e}") from e


def check_sizes(tower, sizes):
    for s in sizes:
        if s < tower.stride or s % tower.stride:
            raise Refused(f"an image of {s} pixels a side is not whole cells of {tower.stride}")
        if tower.sizes and s not in tower.sizes:
            raise Refused(f"this tower is for images of {tower.sizes[0]} pixels a side, not {s}")
