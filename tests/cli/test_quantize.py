# SPDX-License-Identifier: MIT
"""quantize: every type of the bundled and the golden models answers; folders of calibration pictures."""

import os
import shutil
import threading

import gguf
import numpy as np
import pytest

from conftest import DATA, PICTURE, ROOT, convert, ok, refused, run

BUNDLED = ROOT / "models" / "tinyvlm-25m.gguf"
FLOAT_TOWER = DATA.parent / "fuzz" / "corpus" / "gguf" / "tinyvlm.gguf"  # random, 32 x 32
TYPES = ["f32", "f16", "bf16", "q8_0", "q4_0"]
SMALL = ("-q", "-n", 4)


@pytest.mark.parametrize("kind", TYPES)
def test_bundled_model(tmp_path, kind):
    out = tmp_path / "out.gguf"
    ok("quantize", "-q", BUNDLED, out, "--type", kind)
    assert ok("ask", "-m", out, *SMALL, PICTURE, "What is in the picture?").out.strip()
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    assert types["v.blk.1.expand.weight"] == "I8"
    assert types["blk.0.ffn_up.weight"] == kind.upper()


@pytest.mark.parametrize("kind,fallback", [("q4_k", "Q5_0"), ("q5_k", "Q5_1"), ("q6_k", "Q8_0")])
def test_k_quants(tmp_path, kind, fallback):
    """Rows of 1536 are whole super-blocks, rows of 576 are not; every weight is what gguf's reader makes of it."""
    out, plain = tmp_path / "out.gguf", tmp_path / "plain.gguf"
    done = ok("quantize", BUNDLED, out, "--type", kind)
    note = f"note: blk.0.ffn_up.weight takes {fallback}: rows of 576 are not whole blocks of {kind.upper()}"
    assert note in done.err and "blk.0.ffn_down" not in done.err
    tensors = {t.name: t for t in gguf.GGUFReader(out).tensors}
    types = {name: t.tensor_type.name for name, t in tensors.items()}
    assert types["blk.0.ffn_down.weight"] == kind.upper() and types["blk.0.ffn_up.weight"] == fallback
    assert types["token_embd.weight"] == "Q8_0" and types["v.blk.1.expand.weight"] == "I8"
    assert ok("ask", "-m", out, *SMALL, PICTURE, "What is in the picture?").out.strip()
    ok("quantize", "-q", out, plain, "--type", "f32")
    compared = 0
    for t in gguf.GGUFReader(plain).tensors:
        if tensors[t.name].tensor_type.name in (kind.upper(), fallback):
            want = gguf.quants.dequantize(tensors[t.name].data, tensors[t.name].tensor_type)
            assert np.array_equal(t.data.reshape(want.shape), want), t.name
            compared += 1
    assert compared > 30


def test_matrices_of_their_own_types(tmp_path):
    """The last that fits counts; without one the table's; int8 layers and rows that are no whole blocks stay what they were."""
    out = tmp_path / "out.gguf"
    mixed = ("--tensor", "token_embd=q4_0", "--tensor", "ffn_=q5_0", "--tensor", "blk.1.ffn_up=Q8_0", "--tensor", "v.=f32", "--tensor", "mm.pool.hi=f16")
    ok("quantize", "-q", BUNDLED, out, "--type", "q4_0", *mixed)
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    want = {"token_embd": "Q4_0", "blk.0.ffn_up": "Q5_0", "blk.1.ffn_up": "Q8_0", "blk.1.ffn_down": "Q5_0", "blk.0.attn_q": "Q4_0",
            "v.blk.1.expand": "I8", "mm.pool.hi": "F16", "mm.pool.attn_q": "Q4_0"}
    assert {name: types[f"{name}.weight"] for name in want} == want
    assert ok("ask", "-m", out, *SMALL, PICTURE, "What is in the picture?").out.strip()
    ok("quantize", "-q", BUNDLED, tmp_path / "plain.gguf", "--type", "q4_0")
    assert out.stat().st_size != (tmp_path / "plain.gguf").stat().st_size
    refused(2, "no matrix has 'attn_gate' in its name", "quantize", BUNDLED, out, "--type", "q4_0", "--tensor", "attn_gate=q8_0")
    refused(2, "no matrix has 'attn_norm' in its name", "quantize", BUNDLED, out, "--type", "q4_0", "--tensor", "attn_norm=q8_0")
    for value in ("token_embd", "=q4_0", "token_embd=", "token_embd=q3_k", "token_embd=int8"):
        refused(2, "is not a valid value for option '--tensor'", "quantize", BUNDLED, out, "--type", "q4_0", "--tensor", value)
    refused(2, "'--tensor'", "quantize", BUNDLED, out, "--type", "q4_0", *["--tensor", "ffn=q4_0"] * 17)


@pytest.fixture(scope="module")
def golden(models, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "other.gguf"
    convert("other", other, "--type", "f32", "-q")
    return {**models, "other": other}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("layout", ["tiny", "tiny_hf", "tiny_unfused", "other"])
def test_golden_models(tmp_path, golden, layout, kind):
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    ok("quantize", "-q", golden[layout], first, "--type", kind)
    assert run("ask", "-m", first, *SMALL, PICTURE, "What is this?").code == 0
    # what was quantised is quantised again
    ok("quantize", "-q", first, second, "--type", "q4_0" if kind != "q4_0" else "f16")
    assert run("ask", "-m", second, *SMALL, PICTURE, "What is this?").code == 0
    # straight from the checkpoint it is the same
    converted = tmp_path / "converted.gguf"
    convert(layout, converted, "--type", kind, "-q")
    a, b = (gguf.GGUFReader(p) for p in (first, converted))
    assert [(t.name, t.tensor_type) for t in a.tensors] == [(t.name, t.tensor_type) for t in b.tensors]


def test_int8_of_int8_is_refused(tmp_path):
    out = tmp_path / "out.gguf"
    refused(3, "int8 already", "quantize", "-q", BUNDLED, out, "--type", "int8", "--calibrate", DATA / "golden")
    assert not out.exists()


@pytest.mark.parametrize("decoder", TYPES)
def test_int8_with_every_decoder(tmp_path, decoder):
    out = tmp_path / "out.gguf"
    ok("quantize", "-q", FLOAT_TOWER, out, "--type", "int8", "--calibrate", DATA / "golden", "--decoder", decoder)
    assert ok("info", "-m", out, "--json").json()[0]["architecture"] == "tinyvlm"
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    assert types["v.stem.weight"] == "I8" and types["blk.0.ffn_up.weight"] == decoder.upper()


def calibrate(folder, out, *options):
    return run("quantize", FLOAT_TOWER, out, "--type", "int8", "--calibrate", folder, *options)


def errors_of(text):
    """The table of errors, in order: {layer: (alone or None, behind, stays float)}, in per cent."""
    head, *lines = text.splitlines()
    assert head.startswith("relative errors"), text
    table = {}
    for line in lines:
        name, *cells = line.split()
        values = [float(value) for value, unit in zip(cells, cells[1:]) if unit == "%"]
        table[name] = (values[0] if len(values) == 2 else None, values[-1], cells[-1] == "float")
    return table


def float_and_int8_tokens(out, picture):
    from safetensors.numpy import load_file

    tokens = []
    for model in (FLOAT_TOWER, out):
        path = out.with_suffix(".safetensors")
        ok("dump", "-q", "-m", model, "--image", picture, "-p", "x", "--new-tokens", 0, "--precision", "auto", "-o", path)
        tokens.append(load_file(path)["bridge_out"].astype(np.float64))
    return tokens


def test_errors_are_told(tmp_path):
    """Of each layer in order, then of the tokens: as two dumps have it, where one picture is all there is."""
    folder, out = tmp_path / "photos", tmp_path / "out.gguf"
    folder.mkdir()
    shutil.copy(PICTURE, folder / "a.png")
    done = calibrate(folder, out)
    assert done.code == 0, done.err
    errors = errors_of(done.out)
    names = list(errors)
    assert names[0] == "stem" and names[-2:] == ["head", "tokens"] and "blocks.0.dw" in names, names
    assert all(0 < behind < 50 for _, behind, _ in errors.values()), errors
    assert [name for name, (alone, _, _) in errors.items() if alone is None] == ["tokens"]
    exact, got = float_and_int8_tokens(out, folder / "a.png")
    assert abs(errors["tokens"][1] - 100 * np.linalg.norm(got - exact) / np.linalg.norm(exact)) < 0.2
    assert not calibrate(folder, tmp_path / "quiet.gguf", "-q").out


def test_the_worst_layer_stays_float(tmp_path):
    """A bound between the two largest errors leaves that one float; the file answers."""
    out = tmp_path / "out.gguf"
    whole = errors_of(calibrate(DATA / "golden", out, "--max-layer-error", 1000).out)
    assert not any(stays for *_, stays in whole.values())
    (first, worst), (second, next_worst) = sorted(
        ((alone, name) for name, (alone, *_) in whole.items() if alone is not None), reverse=True)[:2]
    assert first > second, (worst, next_worst)
    mixed = errors_of(calibrate(DATA / "golden", out, "--max-layer-error", (first + second) / 2).out)
    assert [name for name, (*_, stays) in mixed.items() if stays] == [worst]
    assert {name: row[0] for name, row in mixed.items()} == {name: row[0] for name, row in whole.items()}
    tensors = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    floats = [n for n, kind in tensors.items() if n.startswith("v.") and n.endswith(".weight") and kind != "I8"]
    assert len(floats) == 1 and floats[0].replace("weight", "scale") not in tensors
    assert floats[0].replace("weight", "out_q") in tensors
    assert run("ask", "-m", out, *SMALL, PICTURE, "What is this?").code == 0


@pytest.mark.parametrize("value", ["-1", "x", "nan", "1001", ""])
def test_senseless_bounds_are_refused(tmp_path, value):
    done = calibrate(DATA / "golden", tmp_path / "out.gguf", f"--max-layer-error={value}")
    assert done.code == 2 and "max-layer-error" in done.err, done.err


def test_errors_are_of_pictures_held_out(tmp_path):
    """The eighth picture of eight alone is reported, and the ranges are of the other seven."""
    folder, seven, out = tmp_path / "eight", tmp_path / "seven", tmp_path / "out.gguf"
    folder.mkdir()
    seven.mkdir()
    for i in range(8):
        grey = bytes([30 * i if i < 7 else 255]) * (64 * 64 * 3)
        (folder / f"{i}.ppm").write_bytes(b"P6 64 64 255\n" + grey)
        if i < 7:
            shutil.copy(folder / f"{i}.ppm", seven)
    done = calibrate(folder, out)
    assert done.code == 0, done.err
    exact, got = float_and_int8_tokens(out, folder / "7.ppm")
    assert abs(errors_of(done.out)["tokens"][1] - 100 * np.linalg.norm(got - exact) / np.linalg.norm(exact)) < 0.2
    assert calibrate(seven, tmp_path / "seven.gguf", "-q").code == 0
    assert out.read_bytes() == (tmp_path / "seven.gguf").read_bytes()


def test_int8_weights_keep_their_sums(tmp_path):
    """Codes are within a step and a half of the weights, and their sum within half a step."""
    out = tmp_path / "out.gguf"
    assert calibrate(DATA / "golden", out, "-q").code == 0
    exact = {t.name: t.data for t in gguf.GGUFReader(FLOAT_TOWER).tensors}
    made = {t.name: t.data for t in gguf.GGUFReader(out).tensors}
    rounded = 0
    for name in (n for n, codes in made.items() if codes.dtype == np.int8):
        codes = made[name].reshape(len(made[name]), -1).astype(float)
        wanted = exact[name].reshape(codes.shape) / made[name.removesuffix("weight") + "scale"][:, None]
        assert np.abs(codes).max() <= 127 and np.abs(codes - wanted).max() < 1.5, name
        assert np.abs(codes.sum(1) - wanted.sum(1)).max() < 0.51, name
        rounded += int((np.abs(codes - wanted) > 0.501).sum())
    assert rounded > 0  # some had to move


def test_folders_as_people_have_them(tmp_path):
    """Cameras write capital letters; a folder has sub-folders, other files, hidden and broken ones."""
    folder, out = tmp_path / "photos", tmp_path / "out.gguf"
    (folder / "holiday.jpg").mkdir(parents=True)
    shutil.copy(PICTURE, folder / "IMG_0001.PNG")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    (folder / "._IMG_0001.PNG").write_bytes(b"a resource fork")
    (folder / "notes.txt").write_text("no picture")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    done = calibrate(folder, out)
    assert done.code == 0, done.err
    assert f"{folder}/broken.jpg is skipped: " in done.err
    assert f"{folder}/holiday.jpg is skipped: a folder" in done.err
    assert f"{folder}/gone.png is skipped: No such file" in done.err
    assert "notes.txt" not in done.err and "._IMG" not in done.err and "IMG_0001" not in done.err
    assert out.exists()


def test_a_folder_of_broken_pictures_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    done = calibrate(tmp_path, tmp_path / "out.gguf")
    assert done.code == 3 and "a.png is skipped" in done.err and "none of its images" in done.err, done.err
    assert not (tmp_path / "out.gguf").exists()


def test_of_many_pictures_some_are_taken_evenly(tmp_path):
    """512 of 1,024; those that were taken are named, as all but the first are broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(PICTURE, folder / "0000.png")
    for i in range(1, 1024):
        (folder / f"{i:04}.png").touch()
    done = calibrate(folder, tmp_path / "out.gguf")
    assert done.code == 0, done.err
    taken = [int(line.split(".png is skipped")[0][-4:]) for line in done.err.splitlines() if "is skipped" in line]
    assert taken == list(range(2, 1024, 2))


def test_a_fifo_is_no_picture(tmp_path):
    """A file that gives other pixels when it is read again must not matter: pictures are read once."""
    os.mkfifo(tmp_path / "a.ppm")
    done = calibrate(tmp_path, tmp_path / "out.gguf")
    assert done.code == 3 and "a.ppm is skipped: not a file" in done.err, done.err


def test_a_picture_that_changes_while_calibrating(tmp_path):
    """The file's bytes are exchanged as fast as possible; whatever was read, the result opens."""
    folder, out = tmp_path / "photos", tmp_path / "out.gguf"
    folder.mkdir()
    faces = [b"P6 64 64 255\n" + bytes([v]) * (64 * 64 * 3) for v in (0, 255)]
    stop = threading.Event()

    def exchange():
        i = 0
        while not stop.is_set():
            i += 1
            (folder / "next").write_bytes(faces[i % 2])
            os.replace(folder / "next", folder / "a.ppm")

    (folder / "a.ppm").write_bytes(faces[0])
    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for _ in range(5):
            done = calibrate(folder, out, "-q")
            assert done.code == 0, done.err
            ok("info", "-m", out)
    finally:
        stop.set()
        thread.join()


def test_notes_are_one_line_that_can_be_shown(tmp_path, model):
    raw = model.read_bytes()
    for old, new in [(b"v.stem.2.weight", b"v.\x1b[2J\nx.weight"),  # and no checksum of the header
                     (b"tinyvlm.file_version", b"general.file_version"),
                     (b"tinyvlm.header_crc32c", b"general.header_crc32c")]:
        assert raw.count(old) == 1 and len(old) == len(new)
        raw = raw.replace(old, new)
    (tmp_path / "in.gguf").write_bytes(raw)
    done = run("quantize", tmp_path / "in.gguf", tmp_path / "out.gguf", "--type", "q4_0")
    lines = done.err.splitlines()
    assert done.code == 3 and "\x1b" not in done.err
    assert "note: v.\ufffd[2J x.weight takes F16: rows of 8 are not whole blocks of Q8_0" in lines
    assert all(line.startswith(("note: ", "tinyvlm: ")) for line in lines), done.err
