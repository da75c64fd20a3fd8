# SPDX-License-Identifier: MIT
"""Added tokens against Hugging Face `tokenizers`: every flag, overlaps, tokens the vocabulary has, ids."""
import json
import random

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from folders import READER, ROOT, compile_driver, encode
from test_hf_equal import QWEN2_REGEX

TINY = ROOT / "tests" / "data" / "golden" / "tiny"
CONTENTS = ["<mask>", "<|user|>", "cat", "the", "abc", "bcdef", "<a>", "<a><b>", "a><b", "  ", "    ", "\n", "\n\n", "é",
            "e\u0301", "\u00c5", "<s>", "x<s", " x", "x ", "_", "ing", "Ġthe", "1", "\u00a0", "日本", "e", "\u0301"]
PIECES = CONTENTS + ["a", "b", " ", "  ", "\n", "\t", "cats", "concatenate", "def", "\u3000", "_", "!", "e", "\u0301",
                     "ü", "Ⓐ", "½", "9", "\u200d", "x", "<", ">", "word", "The", "é", "\U0001f600", "<<a>"]


@pytest.fixture(scope="session")
def folder_driver(tmp_path_factory):
    return compile_driver(tmp_path_factory.mktemp("folder"), "encode_folder", *READER)


def tokenizer(pre):
    vocab = json.loads((TINY / "vocab.json").read_text(encoding="utf-8"))
    lines = (TINY / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [tuple(x.split(" ")) for x in lines if x and not x.startswith("#version")]
    out = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt2", "smollm"))
    regex = QWEN2_REGEX.replace(r"\p{N}|", r"\p{N}{1,3}|") if pre == "llama3" else QWEN2_REGEX
    first = {"qwen2": [pre_tokenizers.Split(Regex(regex), "isolated")],
             "llama3": [pre_tokenizers.Split(Regex(regex), "isolated")],
             "smollm": [pre_tokenizers.Digits(individual_digits=True)], "gpt2": []}[pre]
    out.pre_tokenizer = pre_tokenizers.Sequence([*first, byte_level]) if first else byte_level
    if pre == "qwen2":
        out.normalizer = normalizers.NFC()
    out.decoder = decoders.ByteLevel()
    return out


def encode_by_reference(reference, text):
    """None where the reference itself ends in a panic: an lstrip token in white space already taken."""
    try:
        return reference.encode(text, add_special_tokens=False).ids
    except BaseException as error:  # pyo3's panics are no Exception
        if "AddedVocabulary bad split" not in str(error):
            raise
        return None


def compare(driver, folder, reference, texts):
    folder.mkdir(exist_ok=True)
    reference.save(str(folder / "tokenizer.json"))
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))  # what the file says
    got = encode(driver, folder, texts)
    assert not isinstance(got, str), got
    wanted = [encode_by_reference(reference, text) for text in texts]
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    assert sum(want is None for want in wanted) < len(wanted) / 10
    for text, ids, want in zip(texts, got, wanted):
        assert want is None or ids == want, (ascii(text), ids, want, added)


@pytest.mark.parametrize("pre", ["qwen2", "llama3", "smollm", "gpt2"])
def test_random_flags(folder_driver, tmp_path, pre):
    rng = random.Random(pre)
    for round_ in range(25):
        reference = tokenizer(pre)
        for content in rng.sample(CONTENTS, rng.randint(1, 9)):
            flags = {k: rng.random() < 0.35 for k in ("lstrip", "rstrip", "single_word", "normalized", "special")}
            (reference.add_special_tokens if flags.pop("special") else reference.add_tokens)(
                [AddedToken(content, **flags)])
        texts = ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 14))) for _ in range(200)]
        compare(folder_driver, tmp_path / str(round_), reference, texts)


def test_long_runs(folder_driver, tmp_path):
    """White space that every token may take: linear, and the same as the reference."""
    reference = tokenizer("gpt2")
    reference.add_tokens([AddedToken("\n", rstrip=True, normalized=False), AddedToken("x", lstrip=True)])
    compare(folder_driver, tmp_path / "f", reference, ["\n" * 3000, " " * 3000 + "x", "x \n" * 1000])


def refused(driver, folder, change, message, config=None):
    folder.mkdir()
    reference = tokenizer("gpt2")
    reference.add_special_tokens(["<a>", "<b>"])
    data = json.loads(reference.to_str())
    change(data)
    (folder / "tokenizer.json").write_text(json.dumps(data))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    got = encode(driver, folder, [])
    assert isinstance(got, str) and message in got, (message, got)


def put(*path):
    *keys, value = path

    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


TEMPLATE = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
A, BOS = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<a>", "type_id": 0}}
REFUSED = [
    (put("added_tokens", 1, "id", 999), "added token '<b>': id 999, where the next free one is 573"),
    (put("added_tokens", 1, "lstrip", "yes"), "token '<b>': key 'lstrip': expected true or false"),
    (put("normalizer", {"type": "NFKC"}), "normalizer 'NFKC'"),
    (put("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}), "'Sequence'"),
    (put("normalizer", {"type": "NFC"}), "with normalizer 'NFC'"),
    (put("pre_tokenizer", "add_prefix_space", True), "pre-tokenizer 'ByteLevel'"),
    (put("pre_tokenizer", None), "pre-tokenizer 'none'"),
    (put("decoder", {"type": "Metaspace"}), "decoder 'Metaspace'"),
    (put("post_processor", {"type": "RobertaProcessing"}), "post-processor 'RobertaProcessing'"),
    (put("post_processor", {**TEMPLATE, "single": [A, BOS]}), "post-processor 'TemplateProcessing'"),
    (put("post_processor", {**TEMPLATE, "single": [BOS, BOS, A]}), "post-processor 'TemplateProcessing'"),
    (put("post_processor", {**TEMPLATE, "single": []}), "post-processor 'TemplateProcessing'"),
    (put("model", "dropout", 0.1), "'model.dropout'"),
    (put("model", "byte_fallback", True), "'model.byte_fallback'"),
    (put("model", "ignore_merges", True), "'model.ignore_merges'"),
    (put("model", "fuse_unk", True), "'model.fuse_unk'"),
    (put("model", "end_of_word_suffix", "</w>"), "'model.end_of_word_suffix'"),
    (put("model", "type", "WordPiece"), "'WordPiece'"),
]


def test_refused(folder_driver, tmp_path):
    for i, (change, message) in enumerate(REFUSED):
        refused(folder_driver, tmp_path / str(i), change, message)
    entry = {"content": "<a>", "lstrip": True, "special": True}
    configs = [({"added_tokens_decoder": {"572": entry}}, "'<a>' is given twice, with other settings"),
               ({"add_prefix_space": True}, "'add_prefix_space'"), ({"add_eos_token": True}, "'add_eos_token'"),
               ({"split_special_tokens": True}, "'split_special_tokens'"),
               ({"added_tokens_decoder": {"x": entry}}, "'added_tokens_decoder': id 'x'")]
    for i, (config, message) in enumerate(configs):
        refused(folder_driver, tmp_path / f"c{i}", lambda data: None, message, config)


def test_harmless(folder_driver, tmp_path):
    """Settings that change no id here are taken."""
    for i, change in enumerate([put("post_processor", {**TEMPLATE, "single": [A]}), put("model", "dropout", 0.0),
                                put("post_processor", {**TEMPLATE, "single": [BOS, A]}), put("decoder", None),
                                put("normalizer", {"type": "Sequence", "normalizers": []}),
                                put("added_tokens", [])]):
        folder = tmp_path / str(i)
        folder.mkdir()
        data = json.loads(tokenizer("gpt2").to_str())
        change(data)
        (folder / "tokenizer.json").write_text(json.dumps(data))
        got = encode(folder_driver, folder, ["The cat"])
        assert got == [tokenizer("gpt2").encode("The cat").ids], got


def test_named_in_config(folder_driver, tmp_path):
    """An eos_token that only the model's vocabulary has is special, as transformers makes it."""
    reference = tokenizer("gpt2")
    token = next(t for t, i in sorted(reference.get_vocab().items(), key=lambda x: -x[1])
                 if t.isascii() and t.isalpha() and len(t) > 2)
    reference.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": token}))
    texts = [f"x{token}y", f"{token}{token}s"]
    reference.add_special_tokens([token])
    assert encode(folder_driver, tmp_path, texts) == [reference.encode(t).ids for t in texts]
