# SPDX-License-Identifier: MIT
"""Every command as a user and as a program meets it: help, exit codes, JSON, streams."""

import json
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest
from gguf import GGUFReader

from conftest import BIN, GOLDEN, IMAGES, PATIENCE, PICTURE, ROOT, ok, refused, run

CPUINFO = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
COMMANDS = ["describe", "ask", "chat", "info", "convert", "quantize", "bench", "eval", "tokenize", "dump"]
TIMINGS = {"load", "decode", "preprocess", "tower", "bridge", "prefill", "first_token", "generate"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command):
    for option in ("--help", "-h"):
        done = ok(command, option)
        assert done.out.startswith(f"Usage: tinyvlm {command} ")
        assert f"Examples:\n  tinyvlm {command}" in done.out
        assert "--help" in done.out and done.err == ""


def test_program_help():
    done = ok("--help")
    assert all(f"  {c} " in done.out for c in COMMANDS)
    assert ok("help").out == done.out
    assert all(ok("help", c).out == ok(c, "--help").out for c in COMMANDS)
    assert "'frob' is not a command" in run("help", "frob").err
    version, kernels, precisions, architectures, templates, *parts = ok("--version").out.splitlines()
    assert version == "tinyvlm 0.1.0" and kernels.split()[1].rstrip(",") == "scalar"
    assert "f32" in precisions and "fastvlm" in architectures and "chatml" in templates
    has, lacks = (part[14:].split(", ") for part in parts)
    assert [part[:14] for part in parts] == ["built with    ", "built without "]
    assert set(has + lacks) - {"nothing"} == {
        "JPEG", "PNG", "WebP", "GIF", "HEIC and AVIF", "EXIF", "line editing", "archives"
    }
    nothing = run()
    assert nothing.code == 2 and nothing.out == "" and "Usage:" in nothing.err
    assert run("describe", "--help").out.count("Exit codes: 0 done") == 1


@pytest.mark.parametrize(
    "args,message",
    [
        (["frobnicate"], "'frobnicate' is not a command"),
        (["describe"], "name an image"),
        (["describe", "a.jpg", "--bogus"], "option '--bogus' is not known"),
        (["describe", "-d", "a.jpg"], "option '-d' is not known"),
        (
            ["describe", "a.jpg", "--threads", "0"],
            "'0' is not a valid value for option '--threads'",
        ),
        (["describe", "a.jpg", "-t", "many"], "'many' is not a valid value for option '-t'"),
        (["describe", "a.jpg", "--temperature", "-1"], "option '--temperature'"),
        (["describe", "a.jpg", "--seed"], "option '--seed' needs a value"),
        (["describe", "a.jpg", "-n"], "option '-n' needs a value"),
        (["describe", "a.jpg", "--json=yes"], "option '--json' takes no value"),
        (["describe", "a.jpg", "--te", "1"], "option '--te' is ambiguous"),
        (["describe", "a.jpg", "--thread=0"], "option '--threads': a whole number from 1 to 64"),
        (["describe", "a.jpg", "-z5"], "option '-z' is not known"),
        (["describe", "-qz", "a.jpg"], "option '-z' is not known"),
        (["ask", "photo.jpg", "-5 apples?"], "option '-5' is not known"),
        (["ask", "photo.jpg", "-5 apples?"], "'--' ends the options"),
        (["ask", "photo.jpg", "-\u00e9"], "option '-\u00e9' is not known"),
        (["describe", "-m", "", "a.jpg"], "'' is not a valid value for option '-m'"),
        (["ask", "a.jpg", ""], "the question is empty"),
        (["ask", "a.jpg", " \u00a0\t"], "the question is empty"),
        (["ask", "-i", "a.jpg"], "an image and a question"),
        (["info", "--runs", "3"], "option '--runs' is not known"),
        (["convert", "-d", "a", "b"], "option '-d' is not known"),
        (["bench", "a.jpg", "b.jpg"], "one image"),
        (["ask", "a.jpg"], "an image and a question"),
        (["chat", "a.jpg"], "images come by --image"),
        (["info", "a", "b"], "one model"),
        (["convert", "a"], "a folder and an output file"),
        (["quantize", "a", "b"], "--type"),
        (["quantize", "a", "b", "--type", "int8"], "--calibrate DIR"),
        (["dump", "-p", "x"], "--output"),
        (["tokenize", "a", "b"], "one text"),
    ],
)
def test_wrong_usage(args, message):
    done = run(*args)
    assert done.code == 2 and done.out == ""
    assert done.err.splitlines()[-1].startswith("tinyvlm: ") and message in done.err


@pytest.mark.parametrize(
    "value", ["", "0", "1e3", "12x", " 5", "+5", "-1", "0x10", "5.0", "1000001", "99999999999999999999999"]
)
def test_whole_numbers(value):
    done = refused(2, f"'{value}' is not a valid value for option '-n'", "info", "-n", value)
    assert "from 1 to 1000000" in done.err


@pytest.mark.parametrize("value", ["", "nan", "inf", "-0.1", "1,5", "1.5.", "0x1p3", "1e999", " 1", "e1"])
def test_numbers(value):
    done = refused(2, f"'{value}' is not a valid", "info", "--temperature", value, env={"LC_ALL": "de_DE.UTF-8"})
    assert "from 0 to 100" in done.err


def test_numbers_that_are_fine(model):
    options = ["--temperature", "1e-1", "--top-p", ".5", "--min-p", "0", "--seed", 2**64 - 1, "-n1"]
    assert ok("describe", "-m", model, "-q", *options, PICTURE).out


def test_model_lookup(tmp_path, model):
    program = tmp_path / "bin" / "tinyvlm"
    program.parent.mkdir()
    shutil.copy(BIN, program)  # away from the project's own models/

    def found():
        return subprocess.run([program, "info", "--json"], capture_output=True, cwd=tmp_path)

    missing = found()
    assert missing.returncode == 3
    assert b"no model: tinyvlm-25m.gguf" in missing.stderr and b"TINYVLM_MODEL" in missing.stderr
    assert "fastvlm" in ok("info", env={"TINYVLM_MODEL": str(model)}).out
    for place in ("models", "share/tinyvlm", "bin"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        copy = tmp_path / place / "tinyvlm-25m.gguf"
        shutil.copy(model, copy)
        name = json.loads(found().stdout)["file"]
        assert os.path.samefile(tmp_path / name, copy)
        copy.unlink()


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "is empty"),
        (b"GGUF", "ends inside its header"),
        (b"PK\x03\x04 hello", "not a GGUF file: a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "HTML page"),
        (b"\x10\0\0\0\0\0\0\0{\"t\":{}}", "safetensors"),
        (b"GGUF\1\0\0\0", "version 1"),
    ],
)
def test_bad_model(tmp_path, content, message):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(content)
    done = refused(3, message, "info", bad)
    assert str(bad) in done.err
    refused(3, "No such file", "describe", "-m", tmp_path / "none.gguf", PICTURE)


def test_describe(model):
    one = ok("describe", "-m", model, PICTURE, "-n", 6)
    assert one.out.endswith("\n") and "ms" in one.err and "tokens/s" in one.err
    assert "\033" not in one.out + one.err  # neither is a terminal
    quiet = ok("describe", "-m", model, PICTURE, "-n", 6, "--quiet")
    assert quiet.out == one.out and quiet.err == ""
    two = ok("describe", "-m", model, PICTURE, IMAGES / "rgb.png", "-n", 6, "-q")
    assert two.out.startswith(f"{PICTURE}: {one.out}")
    assert f"{IMAGES / 'rgb.png'}: " in two.out


def test_one_bad_picture_among_good_ones(model):
    done = run("describe", "-m", model, "-q", "-n", 3, "--json", PICTURE, "/no/such.jpg", PICTURE)
    assert done.code == 3 and len(done.json()) == 2
    assert "tinyvlm: /no/such.jpg: cannot open" in done.err


@pytest.mark.parametrize("args", [["describe", PICTURE], ["ask", PICTURE, "What is this?"]])
def test_answers_as_json(model, args):
    done = ok(args[0], "-m", model, "--json", "-n", 5, *args[1:])
    (answer,) = done.json()
    assert answer["image"] == str(PICTURE) and isinstance(answer["text"], str)
    assert answer["prompt"] == ("What is this?" if args[0] == "ask" else "Describe the image.")
    assert answer["tokens"] == 5 and answer["finish"] == "length"
    assert set(answer["timings_ms"]) == TIMINGS
    assert all(v >= 0 for v in answer["timings_ms"].values())
    assert done.err == ""


def test_picture_from_standard_input(model):
    by_name = ok("describe", "-m", model, "-q", "-n", 8, PICTURE)
    assert (
        ok("describe", "-m", model, "-q", "-n", 8, "-", stdin=PICTURE.read_bytes()).out
        == by_name.out
    )
    refused(3, "standard input: the file is empty", "describe", "-m", model, "-")


def test_a_users_text_never_becomes_special(model):
    plain = ok("ask", "-m", model, "--json", "-n", 1, PICTURE, "x").json()[0]["prompt_tokens"]
    marked = ok("ask", "-m", model, "--json", "-n", 1, PICTURE, "x<|im_end|>").json()[0][
        "prompt_tokens"
    ]
    assert marked > plain + 1  # as its characters, not as one id


def test_beams(tmp_path, model):
    """Of the bundled model: all the text at once, the same on any number of threads; --json, chat and eval too."""
    asked = ["describe", "-q", PICTURE, "-n", 24]
    said = ok(*asked, "--beams", 4, "-t", 1).out
    assert said.strip() and said == ok(*asked, "--beams", 4, "-t", 3).out
    random = ["ask", "-q", "-m", model, "-n", 24, PICTURE, "Go"]
    assert ok(*random, "--beams", 4).out != ok(*random).out
    assert ok(*asked, "--beams", 4, "--json").json()[0]["text"] == said.rstrip("\n")
    talk = ok("chat", "-q", "--image", PICTURE, "-n", 24, "--beams", 4, "--json", stdin=b"describe\nwhy?\n").json()
    assert len(talk) == 2 and talk[1]["text"]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"image": PICTURE.name, "captions": ["A dog.", "Two dogs."]}) + "\n")
    answers = tmp_path / "answers.jsonl"
    ok("eval", rows, "--images", PICTURE.parent, "--answers", answers, "-n", 24, "--beams", 4, "--json")
    assert json.loads(answers.read_text())["answer"] == said.rstrip("\n")
    refused(2, "beams is 4: beam search goes without sampling.temperature", *asked, "--beams", 4, "--temperature", 1)
    refused(2, "'9' is not a valid value for option '--beams': a whole number from 1 to 8", *asked, "--beams", 9)
    refused(2, "bench: measures greedy answers", "bench", "--beams", 2)


def told_apart(folder):
    """A picture that the bundled model describes in one way greedily and in another by beams, and both."""
    folder.mkdir()
    for seed in range(1, 40):
        picture = folder / f"{seed}.ppm"
        picture.write_bytes(b"P6 40 40 255\n" + bytes(i * i // (7 * seed) % 256 for i in range(40 * 40 * 3)))
        greedy, beams = (ok("describe", "-q", "--beams", n, picture).out for n in (1, 3))
        if greedy != beams:
            return picture, greedy, beams
    pytest.fail("greedy descriptions are those by beams")


def test_the_bundled_model_describes_by_beams(tmp_path):
    """Everywhere where its own question is asked, unless --beams 1 or what beams go without says otherwise; no other question."""
    picture, greedy, beams = told_apart(tmp_path / "pictures")
    own = ok("describe", "-q", "--json", "-n", 1, picture).json()[0]["prompt"]
    assert ok("info", "--json").json()[0]["describe_beams"] == 3 and "by 3 beams" in ok("info").out
    for command in (["describe", "-q", picture], ["describe", "-q", "--lookup", picture], ["ask", "-q", picture, own]):
        assert ok(*command).out == beams
    assert ok("describe", "-q", "--temperature", 1e-6, picture).out == greedy
    assert ok("chat", "-q", "-i", picture, stdin=own.encode() + b"\n").out == beams
    question = ["ask", "-q", picture, own + " Please."]
    assert ok(*question).out == ok(*question, "--beams", 1).out
    rows, answers = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    rows.write_text(json.dumps({"image": picture.name, "captions": ["A dog."]}) + "\n")
    for options, want in (([], beams), (["--beams", 1], greedy)):
        ok("eval", rows, "--images", picture.parent, "--answers", answers, "-q", *options)
        assert json.loads(answers.read_text())["answer"] == want.rstrip("\n")


def test_no_repeat_ngram(model):
    asked = ["ask", "-q", "-m", model, "-n", 40, "--repeat-penalty", 0.5, PICTURE, "Go"]
    free, once = ok(*asked).out, ok(*asked, "--no-repeat-ngram", 1).out
    assert 30 * free[-2] in free and 2 * free[-2] not in once  # a reward for what was said before


def test_lookup_guesses_and_changes_nothing(model):
    for options in (["--repeat-penalty", 0.5], ["--temperature", 3, "--seed", 4]):
        asked = ["ask", "-m", model, "-n", 40, *options, PICTURE, "Go go go go?"]
        plain, guessed = ok(*asked, "--json").json()[0], ok(*asked, "--json", "--lookup").json()[0]
        assert guessed["text"] == plain["text"] and guessed["finish"] == plain["finish"]
        assert plain["drafted_tokens"] == plain["accepted_tokens"] == 0
        assert guessed["drafted_tokens"] >= guessed["accepted_tokens"]
        told = f"{guessed['accepted_tokens']} of {guessed['drafted_tokens']} guesses right"
        assert told in ok(*asked, "--lookup").err
    asked = ["ask", "-m", model, "-n", 40, "--repeat-penalty", 0.5, PICTURE, "Go"]
    assert ok(*asked, "--json", "--lookup").json()[0]["accepted_tokens"] > 0


def test_sampling_options(model):
    def text(*options):
        return ok("ask", "-m", model, "-q", "-n", 24, PICTURE, "Go", *options).out

    greedy = text()
    assert text("--temperature", 0) == greedy == text("--temperature", 1, "--top-k", 1)
    hot = ["--temperature", 5, "--seed"]
    assert text(*hot, 1) == text(*hot, 1)
    assert len({text(*hot, seed) for seed in range(6)}) > 1
    stop = greedy.strip()[4:8]
    assert stop not in text("--stop", stop)
    assert text("--system", "Be brief.") != greedy


def test_context_too_small(model):
    short = "needs at least 27 positions, the context has 20"  # before the picture is encoded
    refused(4, short, "describe", "-m", model, "--ctx", 20, PICTURE)
    exact = "needs 28 positions, the context has 27"
    refused(4, exact, "describe", "-m", model, "--ctx", 27, PICTURE)
    refused(
        4,
        "the context is full after",
        "dump",
        "-m",
        model,
        "--ctx",
        30,
        "--image",
        PICTURE,
        "-p",
        "Describe the image.",
        "--new-tokens",
        10,
        "-o",
        "/dev/null",
    )


@pytest.mark.skipif(not CPUINFO, reason="reads /proc")
def test_peak_memory():
    """Of the bundled model and a photo, as docs/MOBILE.md promises. (What wait tells of a process begins with its parent's.)"""
    photo, bundled = (ROOT / name for name in ("examples/photos/dandelion.jpg", "models/tinyvlm-25m.gguf"))
    command = [BIN, "chat", "-m", bundled, "--json", "-t", "2", "-i", photo]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"What is in the picture?\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"]
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        process.stdin.close()
    assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 < 60e6


@pytest.mark.skipif(not CPUINFO, reason="elsewhere the system tells of a process alone")
def test_bench_tells_its_own_peak(model):
    """A process is started with the peak of the one that starts it."""
    ballast = bytearray(b"x") * (256 << 20)
    measured = ok("bench", "-m", model, "--json", "--no-peaks", "-n", 1, PICTURE).json()[0]
    assert 0 < measured["peak_rss_mb"] < len(ballast) / 1e6


def test_unknown_tier(model):
    refused(2, "cpu tier 'zen'", "describe", "-m", model, "--cpu", "zen", PICTURE)
    refused(2, "cpu tier 'zen'", "describe", "-m", model, PICTURE, env={"TVLM_CPU": "zen"})
    refused(2, "cpu tier 'zen'", "info", model, "--cpu", "zen")


@pytest.mark.skipif("avx2" not in CPUINFO, reason="a tier without kernels in bf16 is needed")
def test_precision_that_the_tier_lacks(model):
    command = ["--cpu", "avx2", "--precision", "bf16"]
    done = refused(2, "precision 'bf16': the kernels of tier avx2 offer", "describe", "-m", model, *command, PICTURE)
    assert str(model) not in done.err
    refused(2, "precision 'bf16'", "info", model, *command)
    assert ok("describe", "--help", env={"TVLM_CPU": "zen"}).out


def test_chat(model):
    turns = b"Hello\n/reset\nHello\n/what\n\n/quit\nnever read\n"
    done = ok("chat", "-m", model, "--image", PICTURE, "-n", 5, "--json", stdin=turns)
    first, second = done.json()
    assert first["text"] == second["text"] and first["tokens"] == 5
    assert "/what is not known" in done.err
    text = ok("chat", "-m", model, "-n", 5, "-q", stdin=b"Hello\nAnd now?")
    assert text.out.count("\n") >= 2 and text.err == ""
    moved = run(
        "chat",
        "-m",
        model,
        "-n",
        3,
        "-q",
        "--json",
        stdin=f"Hello\n/image /no/such.png\n/image {PICTURE}\nHello\n".encode(),
    )
    assert len(moved.json()) == 2 and "/no/such.png: cannot open" in moved.err


def test_text_models_take_no_pictures(tmp_path, model):
    text = text_model(tmp_path)
    for args in (["describe", PICTURE], ["ask", PICTURE, "What?"]):
        done = run(args[0], "-m", text, *args[1:])
        assert done.code == 3 and "tinyvlm chat" in done.err, done.err
    assert ok("chat", "-m", text, "-n", 3, "-q", "--template", "qwen2", stdin=b"Hi\n").out
    assert json.loads(ok("info", text, "--json").out)["image_size"] == 0
    assert ok("bench", "-m", text, "--runs", 1, "--no-peaks", "--prompt-tokens", 8, "-n", 2, "--json").json()


@pytest.fixture
def latin1(tmp_path, model):
    """A model and a picture in a folder whose name is not UTF-8."""
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    copies = {}
    for source in (model, PICTURE):
        name = folder + b"/" + os.fsencode(source.name)
        shutil.copy(source, name)
        copies[source] = os.fsdecode(name)
    return copies[model], copies[PICTURE]


def test_names_that_are_not_utf8(latin1):
    model, picture = latin1
    runs = [
        ok("info", "--json", model),
        ok("describe", "-m", model, "--json", "-n", 1, picture),
        ok("ask", "-m", model, "--json", "-n", 1, picture, "caf\udce9?"),
        ok("chat", "-m", model, "--json", "-n", 1, "-i", picture, stdin=b"Hi\n"),
        ok("bench", "-m", model, "--json", "--runs", 1, "--no-peaks", "-n", 1),
        ok("tokenize", "-m", model, "--json", "-d", "39"),
    ]
    for done in runs:
        (line,) = done.json()  # one object: and it is UTF-8
        done.raw.decode("utf-8")
        for key in ("file", "image", "model"):
            assert "caf\ufffd" in line.get(key, "caf\ufffd")
    assert runs[2].json()[0]["prompt"] == "caf\ufffd?"


def text_model(tmp_path):
    """The decoder of the tiny model as a Qwen2 checkpoint."""
    source = (GOLDEN / "tiny" / "model.safetensors").read_bytes()
    n = struct.unpack("<Q", source[:8])[0]
    header, data = json.loads(source[8 : 8 + n]), b""
    kept = {}
    for name, entry in header.items():
        if name.startswith(("model.layers.", "model.embed", "model.norm", "lm_head")):
            begin, end = entry["data_offsets"]
            kept[name] = {**entry, "data_offsets": [len(data), len(data) + end - begin]}
            data += source[8 + n + begin : 8 + n + end]
    text = json.dumps(kept).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    config = json.loads((GOLDEN / "tiny" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))
    out = tmp_path / "text.gguf"
    ok("convert", tmp_path, out, "--tokenizer", GOLDEN / "tiny", "--type", "f32")
    return out


def test_info(model):
    (info,) = ok("info", model, "--json", "--ctx", 100).json()
    memory = info["memory"]
    assert info["architecture"] == "fastvlm" and info["image_size"] == 128 and info["layers"] == 3
    assert info["vision_dim"] == 256 and info["image_tokens"] == 4 and info["vocabulary"] == 576
    assert info["file_bytes"] == model.stat().st_size
    assert memory["total"] == sum(memory[k] for k in ("model", "engine", "session", "image"))
    larger = ok("info", model, "--json", "--ctx", 200).json()[0]["memory"]
    assert larger["session"] > memory["session"] and larger["model"] == memory["model"]
    assert larger["kv"] == 2 * memory["kv"] and memory["kv"] < memory["session"]
    more = max(memory["vision_scratch"], memory["decoder_scratch"])
    assert memory["largest_buffer"] <= more <= memory["engine"]
    table = ok("info", model).out
    assert "fastvlm" in table and "memory" in table


def test_info_of_a_truncated_file(tmp_path, model):
    whole, cut = model.read_bytes(), tmp_path / "cut.gguf"
    cut.write_bytes(whole[:-1000])
    says = f"{len(whole) - 1000} of {len(whole)} bytes"
    done = refused(3, f"truncated: it has {says}", "info", cut)
    assert f"truncated     the file has {says}" in done.out and "fastvlm" in done.out
    (info,) = refused(3, "truncated", "info", "--json", cut).json()
    assert info["truncated"] is True and info["bytes_present"] == len(whole) - 1000
    assert info["file_bytes"] == len(whole)
    assert ok("info", "--json", model).json()[0]["truncated"] is False


def with_name(model, path, name):
    """The model with another general.name and without checksums."""
    import gguf

    reader = gguf.GGUFReader(str(model))
    writer = gguf.GGUFWriter(str(path), "fastvlm")
    skipped = ("GGUF.", "general.a", "general.name", "tinyvlm.file", "tinyvlm.header", "tinyvlm.tensor")
    for key, field in reader.fields.items():
        if key.startswith(skipped):
            continue
        kind = field.types[0]
        sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=sub)
    writer.add_key_value("general.name", name, gguf.GGUFValueType.STRING)
    for t in reader.tensors:
        writer.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    "name,shown",
    [
        (b"\xff\xfe bad", "\ufffd\ufffd bad"),
        (b"x\x1b]0;pwned\x07\x1b[31mRED\nfile   y", "x\ufffd]0;pwned\ufffd\ufffd[31mRED file   y"),
        (b"a\0b\0c", "a\ufffdb\ufffdc"),
        ("\u202egnp.exe\u2028".encode(), "\ufffdgnp.exe\ufffd"),
    ],
)
def test_info_shows_any_name_on_one_line(tmp_path, model, name, shown):
    odd = tmp_path / "odd.gguf"
    with_name(model, odd, name)
    lines = ok("info", odd).raw.decode().split("\n")
    assert [line for line in lines if line.startswith("name")] == ["name          " + shown]
    assert sum(line.startswith("file") for line in lines) == 1
    assert ok("info", "--json", odd).json()[0]["name"] == shown


def test_json_of_a_path_that_is_not_utf8(tmp_path, model):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/m\xff\x1b[31m\n.gguf")
    end = "/m\ufffd\x1b[31m\n.gguf"
    shutil.copy(model, odd)
    assert ok("info", "--json", odd).json()[0]["file"].endswith(end)
    table = ok("info", odd).raw.decode()
    assert "/m\ufffd\ufffd[31m .gguf (" in table and "\x1b" not in table
    cut = os.fsdecode(os.fsencode(tmp_path) + b"/m\xc3")  # the first half of a character
    shutil.copy(model, cut)
    assert ok("info", "--json", cut).json()[0]["file"].endswith("/m\ufffd")
    bench = ok("bench", "--json", "--runs", 1, "--no-peaks", "--prompt-tokens", 4, "-n", 2, "-m", odd, PICTURE)
    assert bench.json()[0]["model"].endswith(end)
    assert "\x1b" not in refused(3, "m?", "info", odd + "x").err


def test_quantize(tmp_path, model):
    small = tmp_path / "small.gguf"
    done = ok("quantize", model, small, "--type", "q8_0")
    assert small.stat().st_size < 0.5 * model.stat().st_size or "stays" in done.err
    assert ok("describe", "-m", small, "-q", "-n", 4, PICTURE).out
    refused(
        3, "int8", "quantize", model, tmp_path / "x.gguf", "--type", "int8", "--calibrate", IMAGES
    )
    refused(
        3,
        "no images",
        "quantize",
        model,
        tmp_path / "x.gguf",
        "--type",
        "int8",
        "--calibrate",
        tmp_path,
    )
    assert not (tmp_path / "x.gguf").exists()


STAGES = ["load", "preprocess", "tower", "bridge", "prefill", "decode", "first_token"]


def test_bench(model):
    (result,) = ok("bench", "-m", model, "--runs", 3, "-n", 4, "--json", "-t", 2).json()
    assert list(result["stages"]) == STAGES
    for s in result["stages"].values():
        assert 0 <= s["min_ms"] <= s["median_ms"] <= s["max_ms"]
    assert result["runs"] == 3 and result["peak_rss_mb"] > 0 and result["estimate_mb"] > 0
    for peak in result["peaks"].values():
        assert 0 < peak["giga_per_second_1_thread"] and 0 < peak["giga_per_second"]
    assert result["peaks"]["memory"] and result["stages"]["decode"]["percent_of_peak"]["memory"] > 0
    table = ok("bench", "-m", model, "--runs", 1, "-n", 2, PICTURE).out
    assert "tokens/s" in table and "peak memory" in table


def test_bench_requests(model):
    (result,) = ok("bench", "-m", model, "--runs", 2, "-n", 6, "--requests", 3, "--json", "--no-peaks").json()
    assert result["requests"] == 3 and result["tokens_per_second"] > 0
    assert all(0 < result["stages"][s]["min_ms"] for s in ("prefill", "decode"))
    assert "2 requests" in ok("bench", "-m", model, "--runs", 1, "-n", 2, "--requests", 2, "--no-peaks").out
    for wrong in ("0", "65", "x"):
        refused(2, "--requests", "bench", "-m", model, "--requests", wrong)


def test_bench_steps(model):
    done = ok("bench", "-m", model, "--step", "-n", 2, stdin=b"\n\n\n")
    assert len(done.json()) == 3
    assert all(list(line["ms"]) == STAGES for line in done.json())


def places(name, image, tokens):
    """Pixels or rows that a tensor of the tiny FastVLM is applied to, for one picture."""
    part = name.split(".")
    if part[0] == "mm":
        return tokens
    if part[2].startswith("se_"):
        return 1
    stages = {"stem": [1, 2, 2], "stage": range(2, 7), "exp": [6]}[part[1]]
    return (image >> stages[int(part[2]) if part[2].isdigit() else 0]) ** 2


def test_bench_counts(model):
    """Arithmetic and bytes as they follow from the tensors of the file."""
    (result,) = ok("bench", "-m", model, "--runs", 1, "-n", 4, "--json", "--no-peaks").json()
    image, tokens, layers, width, kv_width = 128, 4, 3, 64, 32
    rows = result["prompt_tokens"]
    passes = {"prefill": (rows, rows * (rows + 1) / 2), "decode": (1, rows + 3)}
    counts = {stage: [0, 0] for stage in ("tower", "bridge", *passes)}

    def add(stage, tensor, times):
        counts[stage][0] += 2 * times * int(tensor.n_elements)
        counts[stage][1] += int(tensor.n_bytes)

    for t in GGUFReader(model).tensors:
        kind = t.name.split(".")[0]
        if not t.name.endswith(".weight") or len(t.shape) == 1:
            continue
        if kind in ("v", "mm"):
            n = places(t.name, image, tokens)
            add({"v": "tower", "mm": "bridge"}[kind], t, n)
            if kind == "v" and "attn_output" in t.name:
                counts["tower"][0] += 4 * n * n * int(t.shape[0])
        elif kind in ("blk", "output"):
            for stage, (n, _) in passes.items():
                add(stage, t, 1 if kind == "output" else n)
    for stage, (n, pairs) in passes.items():
        counts[stage][0] += layers * 4 * width * pairs
        counts[stage][1] += layers * 2 * 2 * kv_width * (rows if n > 1 else rows + 3)
    for stage, (flops, size) in counts.items():
        got = result["stages"][stage]
        assert got["gflop"] * 1e9 == pytest.approx(flops, rel=1e-9), stage
        assert got["mb"] * 1e6 == pytest.approx(size, rel=1e-9), stage


def test_terminal(model):
    """On a terminal timings are dim, unless NO_COLOR is set."""

    def stderr_of(env):
        ours, theirs = pty.openpty()
        subprocess.run(
            [BIN, "describe", "-m", model, "-n", "2", PICTURE],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env={**os.environ, **env},
            check=True,
        )
        os.close(theirs)
        text = b""
        while b"tokens/s" not in text:
            text += os.read(ours, 4096)
        os.close(ours)
        return text.decode()

    assert "\033[2m" in stderr_of({"NO_COLOR": ""})
    assert "\033" not in stderr_of({"NO_COLOR": "1"})


def test_no_signal_is_lost_while_opening(model):
    """Wherever it meets the opening of the model, and the wait for input after it."""
    for ms in range(0, 60, 4):
        process = subprocess.Popen(
            [BIN, "tokenize", "-m", model, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        time.sleep(ms / 1000)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)  # though its input stays open
        assert process.returncode in (143, -signal.SIGTERM), ms  # the latter before it could catch it
        process.communicate()
