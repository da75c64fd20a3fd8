# SPDX-License-Identifier: MIT
"""The networks in PyTorch, from the same GGUF files: run as they are, and exported for the other peers."""

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Weights:
    """Tensors of a GGUF file as float32."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.tensors = {t.name: t for t in reader.tensors}

    def __contains__(self, name):
        return f"{name}.weight" in self.tensors

    def __call__(self, name):
        t = self.tensors[name]
        data = gguf.quants.dequantize(t.data, t.tensor_type)
        return torch.from_numpy(np.ascontiguousarray(data, np.float32).reshape(tuple(int(n) for n in reversed(t.shape))))

    def key(self, name):
        return self.fields[name].contents()


def conv(w, name, stride=1, groups=1, pad=None):
    weight = w(f"{name}.weight")
    weight = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim)) if weight.ndim == 2 else weight
    weight = weight[:, None] if weight.ndim == 3 else weight  # depthwise
    c_out, c_in, k, _ = weight.shape
    layer = nn.Conv2d(c_in * groups, c_out, k, stride, k // 2 if pad is None else pad, groups=groups)
    layer.weight.data, layer.bias.data = weight.contiguous(), w(f"{name}.bias")
    return layer


def linear(w, name):
    weight = w(f"{name}.weight")
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight, w(f"{name}.bias")
    return layer


class ConvFFN(nn.Module):
    def __init__(self, w, name, c):
        super().__init__()
        self.dw, self.up, self.down = conv(w, f"{name}.ffn_dw", groups=c), conv(w, f"{name}.ffn_up"), conv(w, f"{name}.ffn_down")

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.dw(x))))


class Attention(nn.Module):
    def __init__(self, w, name, c):
        super().__init__()
        self.qkv, self.out, self.c, self.ffn = linear(w, f"{name}.attn_qkv"), linear(w, f"{name}.attn_output"), c, ConvFFN(w, name, c)

    def forward(self, x):
        b, c, h, width = x.shape
        t = F.layer_norm(x.flatten(2).transpose(1, 2), (self.c,), eps=1e-5)
        q, k, v = self.qkv(t).reshape(b, h * width, 3, self.c // 32, 32).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, h * width, self.c)).transpose(1, 2).reshape(b, c, h, width)
        return self.ffn(x)


class FastViT(nn.Module):
    """pixels [1][3][S][S] -> tower tokens [1][n][c]"""

    def __init__(self, path):
        super().__init__()
        w = Weights(path)
        c = w("v.stem.2.weight").shape[0]
        layers = [conv(w, "v.stem.0", 2), nn.GELU(), conv(w, "v.stem.1", 2, c), nn.GELU(), conv(w, "v.stem.2"), nn.GELU()]
        for s, depth in enumerate(w.key("vision.fastvit.depths")):
            stage = f"v.stage.{s}"
            if s:
                layers += [conv(w, f"{stage}.down.dw", 2, c), nn.GELU(), conv(w, f"{stage}.down.pw"), nn.GELU()]
                c *= 2
            if f"{stage}.pos" in w:
                layers.append(conv(w, f"{stage}.pos", groups=c))
            for i in range(depth):
                block = f"{stage}.blk.{i}"
                if f"{block}.attn_qkv" in w:
                    layers.append(Attention(w, block, c))
                else:
                    layers += [conv(w, f"{block}.mixer", groups=c), ConvFFN(w, block, c)]
        self.layers, self.expand = nn.Sequential(*layers), conv(w, "v.exp.dw", groups=c)
        self.reduce, self.excite = linear(w, "v.exp.se_reduce"), linear(w, "v.exp.se_expand")

    def forward(self, x):
        y = self.expand(self.layers(x))
        z = torch.sigmoid(self.excite(F.relu(self.reduce(y.mean((2, 3))))))
        return F.gelu(y * z[:, :, None, None]).flatten(2).transpose(1, 2)


class Same(nn.Module):
    """TensorFlow's SAME padding of an even map at stride 2."""

    def __init__(self, k):
        super().__init__()
        self.pad = ((k - 2) // 2, (k - 1) // 2) * 2

    def forward(self, x):
        return F.pad(x, self.pad)


class EfficientNet(nn.Module):
    """pixels [1][3][S][S] -> the head's map [1][c][S/32][S/32]"""

    def __init__(self, path):
        super().__init__()
        w = Weights(path)
        self.first = nn.Sequential(Same(3), conv(w, "v.stem", 2, pad=0), nn.ReLU6())
        self.blocks, self.skips = nn.ModuleList(), []
        c = w("v.stem.weight").shape[0]
        for i, stride in enumerate(w.key("vision.efficientnet.strides")):
            block, layers, before = f"v.blk.{i}", [], c
            if f"{block}.expand" in w:
                layers += [conv(w, f"{block}.expand"), nn.ReLU6()]
                c = layers[0].out_channels
            k = w(f"{block}.dw.weight").shape[-1]
            layers += [Same(k), conv(w, f"{block}.dw", 2, c, 0)] if stride == 2 else [conv(w, f"{block}.dw", 1, c)]
            layers += [nn.ReLU6(), conv(w, f"{block}.project")]
            c = layers[-1].out_channels
            self.blocks.append(nn.Sequential(*layers))
            self.skips.append(stride == 1 and c == before)
        self.head = nn.Sequential(conv(w, "v.head"), nn.ReLU6())

    def forward(self, x):
        x = self.first(x)
        for block, skip in zip(self.blocks, self.skips):
            x = x + block(x) if skip else block(x)
        return self.head(x)


class Qwen2(nn.Module):
    """Rows of ids -> their hidden states or the logits of the last; keys and values of what came before are kept."""

    def __init__(self, path, dtype):
        super().__init__()
        w = Weights(path)
        arch = w.key("general.architecture")  # qwen2, or fastvlm, whose decoder it is
        self.layers = w.key(f"{arch}.block_count")
        self.heads, self.kv_heads = w.key(f"{arch}.attention.head_count"), w.key(f"{arch}.attention.head_count_kv")
        self.w = {name: w(name).to(dtype) for name in w.tensors if not name.startswith(("v.", "mm."))}
        self.size = w.key(f"{arch}.embedding_length") // self.heads
        self.inverse = 1e6 ** (-torch.arange(0, self.size, 2, dtype=torch.float64) / self.size)
        self.cache = []

    def norm(self, x, name):
        wide = x.float()
        return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.w[f"{name}.weight"]

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def attend(self, n, layer, cos, sin):
        rows = n.shape[0]
        q, k, v = (self.linear(n, f"blk.{layer}.attn_{x}").view(rows, -1, self.size).transpose(0, 1) for x in "qkv")
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        if len(self.cache) > layer:
            k, v = (torch.cat((old, new), 1) for old, new in zip(self.cache[layer], (k, v)))
            self.cache[layer] = (k, v)
        else:
            self.cache.append((k, v))
        mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=rows > 1, enable_gqa=True)[0]
        return self.linear(mixed.transpose(0, 1).reshape(rows, -1), f"blk.{layer}.attn_output")

    def embed(self, ids):
        return F.embedding(ids, self.w["token_embd.weight"])

    def hidden(self, h):
        """Embedded rows -> the last layer's output."""
        past = self.cache[0][0].shape[1] if self.cache else 0
        angle = torch.arange(past, past + len(h), dtype=torch.float64)[:, None] * self.inverse
        cos, sin = angle.cos().to(h.dtype), angle.sin().to(h.dtype)
        for i in range(self.layers):
            h = h + self.attend(self.norm(h, f"blk.{i}.attn_norm"), i, cos, sin)
            n = self.norm(h, f"blk.{i}.ffn_norm")
            h = h + self.linear(F.silu(self.linear(n, f"blk.{i}.ffn_gate")) * self.linear(n, f"blk.{i}.ffn_up"), f"blk.{i}.ffn_down")
        return h

    def logits(self, h):
        return F.linear(self.norm(h, "output_norm"), self.w.get("output.weight", self.w["token_embd.weight"]))

    def forward(self, ids):
        return self.logits(self.hidden(self.embed(ids))[-1:])[0]


def tower_of(path):
    kind = Weights(path).key("vision.tower")
    return (FastViT if kind == "fastvit" else EfficientNet)(path).eval()
