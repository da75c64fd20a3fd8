# SPDX-License-Identifier: MIT
"""tokenize against the reference's vectors, from a model, a tokenizer.json and a vocabulary folder."""

import json
import random
import unicodedata

import pytest

from conftest import DATA, GOLDEN, ok, refused

QWEN2 = DATA / "tokenizer" / "qwen2"


def vectors(name):
    return json.loads((DATA / "tokenizer" / name).read_text(encoding="utf-8"))


def ids_of(source, text):
    raw = text if isinstance(text, bytes) else text.encode()
    return ok("tokenize", *source, "--json", "-", stdin=raw).json()[0]["ids"]


@pytest.mark.parametrize("source", ["gguf", "json", "folder"])
def test_tiny_vectors(model, tmp_path, source):
    if source == "folder":
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            (tmp_path / name).write_bytes((GOLDEN / "tiny" / name).read_bytes())
    options = {
        "gguf": ["--model", model],
        "json": ["--tokenizer", GOLDEN / "tiny" / "tokenizer.json"],
        "folder": ["--tokenizer", tmp_path],
    }[source]
    for v in vectors("tokenizer_tiny.json"):
        assert ids_of(options, v["text"]) == v["ids"], v["text"]
        decoded = ok("tokenize", *options, "--decode", " ".join(map(str, v["ids"])))
        assert decoded.raw == v["decoded"].encode(), v["text"]


def test_qwen2_vectors():
    """One process for all, as the vocabulary is large: a special token between texts keeps them apart."""
    expected = vectors("tokenizer_qwen2_vectors.json")
    end, end_id = "<|endoftext|>", 151643
    assert not any(end in v["text"] or end_id in v["ids"] for v in expected)
    ids = ids_of(["--tokenizer", QWEN2], "".join(v["text"] + end for v in expected))
    for v in expected:
        at = ids.index(end_id)
        assert ids[:at] == v["ids"], v["text"]
        ids = ids[at + 1 :]
    assert not ids


def test_forms(model):
    as_argument = ok("tokenize", "-m", model, "Hello, world!")
    assert as_argument.out == " ".join(map(str, ids_of(["-m", model], "Hello, world!"))) + "\n"
    assert ok("tokenize", "-m", model, "").out == "\n"
    assert ok("tokenize", "-m", model, "--json", stdin=b"").json() == [{"ids": []}]
    assert ok("tokenize", "-m", model, "--json", "<|im_end|>").json() == [{"ids": [574]}]
    listed = ok("tokenize", "-m", model, "-d", "[39, 68,299]").out
    assert listed == ok("tokenize", "-m", model, "-d", "39 68 299").out
    text = ok("tokenize", "-m", model, "-d", "--json", "39 68 299").json()
    assert text == [{"text": listed}]


def test_nothing_is_stripped_or_added(model):
    rng = random.Random(7)
    cases = [b" \n", b"\n\n  x \t\r\n", b"\0a\0", bytes(range(256)), b"\xff\xfe\xc3", b"x\n" * 50]
    cases += [bytes(rng.randrange(256) for _ in range(60)) for _ in range(20)]
    for raw in cases:
        ids = ids_of(["-m", model], raw)
        back = ok("tokenize", "-m", model, "-d", "-", stdin=json.dumps(ids).encode())
        if is_normal(raw):
            assert back.raw == raw


def is_normal(raw):
    """Valid pieces that NFC would change do not come back as they were, nor do they in the reference."""
    text = raw.decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text) == text


def test_text_that_grows_in_normal_form(model):
    text = "\U0001d160" * 200  # 4 bytes that NFC turns into 12
    ids = ids_of(["-m", model], text)
    back = ok("tokenize", "-m", model, "-d", " ".join(map(str, ids))).out
    assert back == "\U0001d158\U0001d165\U0001d16e" * 200


def test_errors(tmp_path, model):
    refused(3, "vocab.json", "tokenize", "--tokenizer", tmp_path, "x")
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    refused(3, "'WordPiece' is not supported", "tokenize", "--tokenizer", tmp_path, "x")
    (tmp_path / "tokenizer.json").write_text("{")
    refused(3, "not valid JSON", "tokenize", "--tokenizer", tmp_path / "tokenizer.json", "x")
    for ids in ("12 x", 2**31, 2**32 + 1):
        refused(2, "ids separated by spaces", "tokenize", "-m", model, "-d", ids)
    done = refused(2, "576", "tokenize", "-m", model, "-d", "576")
    assert done.out == ""


def test_json_of_python(model, tmp_path):
    """Integers of any size, NaN, infinities and a byte order mark, as json.dump and editors write them."""
    for source in (GOLDEN / "tiny").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "vocab.json").unlink()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        data = json.loads((tmp_path / name).read_text(encoding="utf-8"))
        data.update(model_max_length=int(1e30), floor=float("-inf"), limits=[float("inf"), float("nan")])
        (tmp_path / name).write_text("\ufeff" + json.dumps(data), encoding="utf-8")
    text = "Hello <|im_start|> é"
    assert ids_of(["--tokenizer", tmp_path], text) == ids_of(["-m", model], text)
    ok("convert", tmp_path, tmp_path / "out.gguf")
    assert ids_of(["-m", tmp_path / "out.gguf"], text) == ids_of(["-m", model], text)
