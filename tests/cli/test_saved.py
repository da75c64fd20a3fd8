# SPDX-License-Identifier: MIT
"""Conversations and encoded images that are kept in files: the next process goes on as this one would have."""

import json
import struct

import pytest

from conftest import GOLDEN, PICTURE, convert, ok, refused, run

SAMPLED = ["--json", "--temperature", 0.9, "--seed", 7, "--max-tokens", 12]
QUESTIONS = ["What is it?", "And what else?", "Why?"]


@pytest.fixture(scope="module", params=["tiny", "smolvlm"])
def seeing(request, models, tmp_path_factory):
    """One that sees: an image of some tokens, an image of frames."""
    if request.param == "tiny":
        return models["tiny"]
    out = tmp_path_factory.mktemp("smolvlm") / "m.gguf"
    ok("convert", GOLDEN / "smolvlm", out, "--type", "f32", "-q")
    return out


def chat(model, questions, *options):
    lines = "".join(q + "\n" for q in questions).encode()
    return ok("chat", "--model", model, *SAMPLED, *options, stdin=lines).json()


def said(turns):
    return [(t["text"], t["tokens"], t["prompt_tokens"]) for t in turns]


def test_a_conversation_goes_on(tmp_path, seeing):
    kept = tmp_path / "kept.chat"
    whole = said(chat(seeing, QUESTIONS, "--image", PICTURE))
    first = chat(seeing, QUESTIONS[:1], "--image", PICTURE, "--session", kept)
    second = chat(seeing, QUESTIONS[1:2], "--session", kept, "--threads", 3)
    third = chat(seeing, QUESTIONS[2:], "--session", kept)
    assert said(first + second + third) == whole
    assert first[0]["timings_ms"]["tower"] > 0 and second[0]["timings_ms"]["tower"] == 0


def test_what_is_kept(tmp_path, seeing):
    """Images of the question to come; nothing after /clear; bytes that are no UTF-8, and zeros."""
    kept = tmp_path / "kept.chat"
    chat(seeing, [], "--image", PICTURE, "--session", kept)
    asked = chat(seeing, QUESTIONS[:1], "--session", kept)
    assert said(asked) == said(chat(seeing, QUESTIONS[:1], "--image", PICTURE))
    chat(seeing, ["/clear"], "--session", kept)
    assert said(chat(seeing, ["Hi"], "--session", kept)) == said(chat(seeing, ["Hi"]))
    ok("chat", "--model", seeing, *SAMPLED, "--session", kept, stdin=b"a\xff\x00b\n")
    assert len(chat(seeing, ["c"], "--session", kept)) == 1


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def signed(text, rest, size=None):
    body = b"TVLMCHAT" + struct.pack("<Q", len(text) if size is None else size) + text + rest
    return body + struct.pack("<I", crc32c(body))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model whose conversations are short files."""
    folder = tmp_path_factory.mktemp("small")
    convert("other", folder / "m.gguf", "--type", "f32", "-q")
    kept = folder / "kept.chat"
    ok("chat", "--model", folder / "m.gguf", "--image", PICTURE, "--session", kept, "-n", 2, stdin=b"Hi\n")
    return folder / "m.gguf", kept.read_bytes()


def test_damaged_conversations(tmp_path, small):
    (model, good), bad = small, tmp_path / "bad.chat"
    for i in [*range(0, 24), len(good) // 2, len(good) - 5, len(good) - 1]:
        changed = bytearray(good)
        changed[i] ^= 4
        bad.write_bytes(changed)
        refused(3, "bad.chat: ", "chat", "--model", model, "--session", bad, "-q")
        assert bad.read_bytes() == changed
    for n in (0, 7, 19, 20, len(good) - 1):
        bad.write_bytes(good[:n])
        refused(3, "bad.chat: ", "chat", "--model", model, "--session", bad, "-q")
    for other in (PICTURE, model, GOLDEN):
        refused(3, "", "chat", "--model", model, "--session", other, "-q")
    assert PICTURE.read_bytes()[:4] == b"\x89PNG"


LIES = [
    (lambda t: t.update(version=2), "key 'version'"),
    (lambda t: t.pop("version"), "key 'version'"),
    (lambda t: t.update(turns={}), "key 'turns'"),
    (lambda t: t.update(turns=[7]), "key 'question'"),
    (lambda t: t["turns"][0].pop("answer"), "key 'answer'"),
    (lambda t: t["turns"][0].update(images=None), "key 'images'"),
    (lambda t: t["turns"][0]["images"][0].update(size=-1), "key 'size'"),
    (lambda t: t["turns"][0]["images"][0].update(size=1 << 62), "key 'size'"),
    (lambda t: t["turns"][0]["images"][0].update(size=8), "ends in its field header"),
    (lambda t: t["turns"][0]["images"][0].update(name=7), "key 'name'"),
    (lambda t: t["turns"][0].update(images=[]), "bytes follow its session"),
    (lambda t: t.update(session=t["session"] + t["turns"][0].pop("images")[0]["size"]) or t["turns"][0].update(images=[]),
     "key 'session': the saved session: its magic"),
    (lambda t: t.update(next=[{}]), "key 'size'"),
    (lambda t: t.update(session=t["session"] - 1), "1 bytes follow its session"),
    (lambda t: t.update(session=t["session"] + 1), "key 'session'"),
    (lambda t: t.update(session="x"), "key 'session'"),
]


def test_conversations_that_lie(tmp_path, small):
    (model, good), bad = small, tmp_path / "bad.chat"
    size = struct.unpack("<Q", good[8:16])[0]
    text, rest = json.loads(good[16 : 16 + size]), good[16 + size : -4]
    assert signed(good[16 : 16 + size], rest) == good

    def says(message, data):
        bad.write_bytes(data)
        refused(3, message, "chat", "--model", model, "--session", bad, "-q")

    for lie, message in LIES:
        told = json.loads(json.dumps(text))
        lie(told)
        says(message, signed(json.dumps(told).encode(), rest))
    says("is not JSON", signed(b"{", rest))
    says("is not JSON", signed(b'{"a": 1, "a": 2}', rest))
    says("ends inside its text", signed(b"{}", b"", size=2**64 - 1))
    says("key 'version'", signed(b"[]", rest))


def test_conversations_of_others(tmp_path, small, models):
    (model, good), kept = small, tmp_path / "kept.chat"
    kept.write_bytes(good)
    refused(3, "it was saved with another", "chat", "--model", models["tiny"], "--session", kept, "-q")
    refused(3, "kv_type", "chat", "--model", model, "--session", kept, "-q", "--kv", "f32")
    refused(3, "precision", "chat", "--model", model, "--session", kept, "-q", "--precision", "f32")
    refused(4, "the context has 3", "chat", "--model", model, "--session", kept, "-q", "--ctx", 3)
    assert kept.read_bytes() == good
    done = run("chat", "--model", model, "-q", "-n", 2, "--session", tmp_path / "none" / "x.chat", stdin=b"Hi\n")
    assert done.code == 1 and "x.chat" in done.err and done.out
    refused(2, "'--session'", "chat", "--model", model, "--session", "")


def test_an_encoded_image(tmp_path, seeing, small):
    saved, asked = tmp_path / "photo.tvlm", ["ask", "--model", seeing, "--json"]
    first = ok(*asked, "--save-image", saved, PICTURE, "What is it?").json()[0]
    again = ok(*asked, saved, "What is it?").json()[0]
    assert first["text"] == again["text"] and first["prompt_tokens"] == again["prompt_tokens"]
    assert first["timings_ms"]["tower"] > 0 and again["timings_ms"]["tower"] == 0
    described = ok("describe", "--model", seeing, "--save-image", tmp_path / "b.tvlm", PICTURE, "-q")
    assert described.out == ok("describe", "--model", seeing, saved, "-q").out
    assert saved.read_bytes() == (tmp_path / "b.tvlm").read_bytes()
    assert said(chat(seeing, QUESTIONS[:1], "--image", saved)) == said(chat(seeing, QUESTIONS[:1], "--image", PICTURE))
    refused(3, f"{saved}: model: it was saved with another", "ask", "--model", small[0], saved, "What?", "-q")
    good = saved.read_bytes()
    for i in (9, 40, 62, 70, len(good) - 1):
        saved.write_bytes(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        refused(3, "photo.tvlm: ", "ask", "--model", seeing, saved, "What?", "-q")
    saved.write_bytes(good[:-9])
    refused(3, "photo.tvlm: ", "ask", "--model", seeing, saved, "What?", "-q")


def test_where_images_are_saved(tmp_path, model):
    photo = tmp_path / "photo.png"
    photo.write_bytes(PICTURE.read_bytes())
    refused(2, "one image", "describe", "--model", model, "--save-image", tmp_path / "x", photo, photo)
    refused(2, "one image", "ask", "--model", model, "--save-image", tmp_path / "x", photo, photo, "What?")
    refused(2, "photo.png", "ask", "--model", model, "--save-image", photo, photo, "What?", "-q")
    assert photo.read_bytes() == PICTURE.read_bytes()
    refused(1, "none", "ask", "--model", model, "--save-image", tmp_path / "none" / "x", photo, "What?", "-q")
    refused(2, "'--save-image'", "describe", "--model", model, "--save-image", "", photo)
