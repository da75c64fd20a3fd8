# SPDX-License-Identifier: MIT
"""From the tower of a GGUF file to an ML program."""

import functools
import hashlib
import json
import os
import tempfile
import warnings

import coremltools as ct
import coremltools.optimize.coreml as optimize
import numpy as np
import torch

import tools.coreml.interpreter as interpreter
import tools.coreml.towers as towers

PRECISIONS = ("fp32", "fp16", "int8")
INPUT, OUTPUT = "pixels", "vision_tokens"
TARGET = ct.target.iOS16  # the first whose programs hold int8 weights


@functools.cache
def after_stage_3(op):
    values = [v for given in op.inputs.values() for v in (given if isinstance(given, (list, tuple)) else [given])]
    return any("v_stage_3_" in v.name or (v.op is not None and after_stage_3(v.op)) for v in values)


def fits_float16(op):
    """Activations of FastViTHD's attention stages come close to float16's largest number, and Apple's own export is float32:
    whatever follows the first weights of stage 3 stays float32."""
    return not after_stage_3(op)


def export(tower, sizes):
    """(Tracing makes a graph that coremltools does not convert.) With several sizes, the program knows the stride only."""
    side = torch.export.Dim("side", max=max(sizes) // tower.stride) * tower.stride
    shapes = {INPUT: {1: side, 2: side}} if len(sizes) > 1 else None
    example = torch.zeros(1, max(sizes), max(sizes), 3)
    return torch.export.export(tower, (example,), dynamic_shapes=shapes).run_decompositions({})


def input_type(sizes):
    shapes = [[1, s, s, 3] for s in sizes]
    shape = shapes[0] if len(shapes) == 1 else ct.EnumeratedShapes(shapes, default=shapes[0])
    return ct.TensorType(name=INPUT, shape=shape, dtype=np.float32)


def quantise(model):
    """Rows of zeros divide by their scale of zero; what they become is multiplied by it again."""
    rows = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    with np.errstate(divide="ignore", invalid="ignore"):
        return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=rows))


def sees(file):
    """What a tower's input and output depend on."""
    return {k: v for k, v in file.keys.items() if k.startswith("vision.") and k != "vision.quantization"}


def digest_of(path, app_model, file):
    """The SHA-256 of the file that the app has, which may be `path` quantised."""
    if app_model and sees(towers.File(app_model)) != sees(file):
        raise towers.Refused(f"'{app_model}': its keys 'vision.*' are not those of '{path}'")
    with open(app_model or path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def describe(model, digest, file, precision, sizes):
    preprocess = {k.removeprefix("vision.preprocess."): v for k, v in file.keys.items() if k.startswith("vision.preprocess.")}
    model.short_description = f"Vision tower of {file.keys.get('general.name', 'a model')} ({precision})"
    model.license = str(file.keys.get("general.license", ""))
    model.input_description[INPUT] = "[1][S][S][3], as tvlm_preprocess makes it"
    model.output_description[OUTPUT] = "[1][tokens][width], as tvlm_image_from_vision takes it"
    model.user_defined_metadata.update({
        "tinyvlm.model_sha256": digest, "tinyvlm.tower": file.keys["vision.tower"], "tinyvlm.precision": precision,
        "tinyvlm.image_sizes": json.dumps(sizes), "tinyvlm.preprocess": json.dumps(preprocess)})


def checked_export(tower, sizes, path):
    """A tower is Python: tensors that are missing, or do not fit each other, are found as it runs."""
    try:
        return export(tower, sizes)
    except (KeyError, RuntimeError, TypeError, ValueError) as e:
        raise towers.Refused(f"'{path}': its tensors do not make a tower: {str(e).splitlines()[0]}") from e


def save(model, out):
    """What `out` was stays until the new program is whole, and can be read."""
    with tempfile.TemporaryDirectory(prefix=".coreml-", dir=os.path.dirname(os.path.abspath(out))) as beside:
        new, old = (os.path.join(beside, name) for name in ("new.mlpackage", "old.mlpackage"))
        model.save(new)
        interpreter.Program(new)
        if os.path.lexists(out):
            os.rename(out, old)
        os.rename(new, out)


def convert(path, precision="fp16", sizes=None, app_model=None):
    """-> coremltools' model, to be saved. sizes: pixels a side, the first is the default; None: the GGUF file's, the only
    one that its engine takes. app_model: the file that the program will run with; None: path."""
    tower, file = towers.load(path)
    digest = digest_of(path, app_model, file)
    sizes = list(sizes or [file.key("vision.image_size", int)])
    towers.check_sizes(tower, sizes)
    compute = ct.precision.FLOAT32 if precision == "fp32" else ct.transform.FP16ComputePrecision(op_selector=fits_float16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = ct.convert(checked_export(tower, sizes, path), inputs=[input_type(sizes)], minimum_deployment_target=TARGET,
                           outputs=[ct.TensorType(name=OUTPUT, dtype=np.float32)], compute_precision=compute)
    after_stage_3.cache_clear()
    if precision == "int8":
        model = quantise(model)
    describe(model, digest, file, precision, sizes)
    return model
