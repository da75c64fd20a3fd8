# SPDX-License-Identifier: MIT
"""Runs a saved .mlpackage with PyTorch: its protobuf and its weight file, one operation after the other. A result is
computed in float32 and has the type that the program declares, so float16 is rounded once an operation."""

import json
import math
import pathlib
import struct

import numpy as np
import torch
import torch.nn.functional as F
from coremltools.proto import MIL_pb2, Model_pb2

STORED = {MIL_pb2.FLOAT16: np.float16, MIL_pb2.FLOAT32: np.float32, MIL_pb2.INT8: np.int8, MIL_pb2.UINT8: np.uint8,
          MIL_pb2.INT32: np.int32, MIL_pb2.BOOL: np.bool_, MIL_pb2.STRING: object}
COMPUTED = {MIL_pb2.FLOAT16: torch.float16, MIL_pb2.FLOAT32: torch.float32, MIL_pb2.INT32: torch.int32}
SENTINEL = 0xDEADBEEF  # begins what weight.bin says of a tensor


def conv(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    if pad_type not in ("custom", "valid"):
        raise NotImplementedError(f"conv with pad_type '{pad_type}'")
    top, bottom, left, right = pad if pad_type == "custom" else (0, 0, 0, 0)
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, strides, 0, dilations, groups)


def pad(x, pad, mode, constant_val=0.0):
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    return F.pad(x, [n for pair in reversed(pairs) for n in pair], mode, constant_val)  # torch begins with the last axis


def layer_norm(x, axes, epsilon, gamma=None, beta=None):
    if [a % x.dim() for a in axes] != [x.dim() - 1]:
        raise NotImplementedError(f"layer_norm over axes {axes}")
    return F.layer_norm(x, x.shape[-1:], gamma, beta, epsilon)


def gelu(x, mode):
    return F.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


def gather(x, indices, axis, batch_dims=0, validate_indices=False):
    if x.dim() != 1 or batch_dims:
        raise NotImplementedError("gather from more than a vector")
    return x[indices]


def concat(values, axis, interleave=False):
    return torch.cat([v.reshape(max(v.shape, (1,))) for v in values], axis)


def dequantise(quantized_data, scale, zero_point, axis):
    rows = [-1 if i == axis else 1 for i in range(quantized_data.dim())]
    return (quantized_data - zero_point.reshape(rows)) * scale.reshape(rows)


OPERATIONS = {
    "add": lambda x, y: x + y,
    "cast": lambda x, dtype: x,
    "concat": concat,
    "constexpr_affine_dequantize": dequantise,
    "conv": conv,
    "gather": gather,
    "gelu": gelu,
    "layer_norm": layer_norm,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": lambda x, y, transpose_x=False, transpose_y=False: (x.mT if transpose_x else x) @ (y.mT if transpose_y else y),
    "mul": lambda x, y: x * y,
    "pad": pad,
    "reduce_mean": lambda x, axes, keep_dims=False: x.mean(axes, keep_dims),
    "relu": lambda x: F.relu(x),
    "relu6": lambda x: F.relu6(x),
    "reshape": lambda x, shape: x.reshape(shape),
    "shape": lambda x: torch.tensor(x.shape),
    "sigmoid": lambda x: torch.sigmoid(x),
    "softmax": lambda x, axis: torch.softmax(x, axis),
    "split": lambda x, split_sizes, axis: x.split(split_sizes, axis),
    "squeeze": lambda x, axes: x.squeeze(axes),
    "transpose": lambda x, perm: x.permute(perm)}
TENSORS = {"x", "y", "weight", "bias", "gamma", "beta", "values", "indices", "quantized_data", "scale", "zero_point"}


def as_argument(name, value):
    """Tensors in float32, all others as Python has them."""
    if name not in TENSORS:
        return value.tolist() if isinstance(value, torch.Tensor) else value
    return value.float() if value.dtype in (torch.float16, torch.int8, torch.uint8) else value


def error(found, wanted):
    """Relative: of the whole, as a vector."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


def last_reads(operations):
    """For each operation, the names that none after it reads."""
    last = {a.name: i for i, op in enumerate(operations) for given in op.inputs.values() for a in given.arguments if a.name}
    names = [[] for _ in operations]
    for name, i in last.items():
        names[i].append(name)
    return names


class Program:
    """A saved package: `run` takes pixels [1][S][S][3] and returns vision tokens [1][n][width], both float32."""

    def __init__(self, path):
        root = pathlib.Path(path)
        manifest = json.loads((root / "Manifest.json").read_text())
        file = root / "Data" / manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        self.spec = Model_pb2.Model.FromString(file.read_bytes())
        self.blobs = (file.parent / "weights" / "weight.bin").read_bytes()
        main = self.spec.mlProgram.functions["main"]
        self.input = main.inputs[0].name
        self.block = main.block_specializations[main.opset]
        self.operations = [op for op in self.block.operations if op.type != "const"]
        self.constants = {op.outputs[0].name: self.value(op.attributes["val"]) for op in self.block.operations
                          if op.type == "const"}

    def histogram(self):
        """{operation: how often}, the commonest first"""
        types = [op.type for op in self.operations]
        return {t: types.count(t) for t in sorted(set(types), key=lambda t: (-types.count(t), t))}

    def blob(self, at, dtype, count):
        sentinel, _, size, begin = struct.unpack_from("<IIQQ", self.blobs, at)
        if sentinel != SENTINEL or size != count * np.dtype(dtype).itemsize or begin + size > len(self.blobs):
            raise ValueError(f"weight.bin, offset {at}: not {count} values of {np.dtype(dtype)}")
        return np.frombuffer(self.blobs, dtype, count, begin)

    def value(self, stored):
        kind = stored.type.tensorType
        dtype, shape = STORED[kind.dataType], [d.constant.size for d in kind.dimensions]
        if stored.WhichOneof("value") == "blobFileValue":
            values = self.blob(stored.blobFileValue.offset, dtype, math.prod(shape))
        else:
            tensor = stored.immediateValue.tensor
            held = getattr(tensor, tensor.WhichOneof("value")).values
            values = np.frombuffer(held, dtype) if isinstance(held, bytes) else np.array(held, dtype)
        return str(values[0]) if dtype is object else torch.from_numpy(values.reshape(shape).copy())

    def arguments(self, known, op):
        for name, given in op.inputs.items():
            values = [as_argument(name, known[a.name] if a.name else self.value(a.value)) for a in given.arguments]
            yield name, values if name == "values" else values[0]
        if op.type.startswith("constexpr_"):
            yield from ((n, as_argument(n, self.value(v))) for n, v in op.attributes.items() if n != "name")

    def step(self, known, op):
        if op.type not in OPERATIONS:
            raise NotImplementedError(f"operation '{op.type}'")
        results = OPERATIONS[op.type](**dict(self.arguments(known, op)))
        for output, result in zip(op.outputs, [results] if isinstance(results, torch.Tensor) else results, strict=True):
            known[output.name] = result.to(COMPUTED[output.type.tensorType.dataType])

    @torch.inference_mode()
    def run(self, pixels):
        known = {**self.constants, self.input: pixels}
        for op, read in zip(self.operations, last_reads(self.operations), strict=True):
            self.step(known, op)
            for name in read:
                del known[name]
        return known[self.block.outputs[0]]
