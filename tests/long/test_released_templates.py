# SPDX-License-Identifier: MIT
"""Chat templates of released checkpoints, as the source archive of PyPI's llama-cpp-python has them.

What is recognised renders to what Jinja makes of it; of all of them only Qwen2.5's and Qwen3's are among our forms."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "text"))
from test_templates import QWEN2, QWEN2_5, jinja, recognise  # noqa: E402,F401

PACKAGE = "llama-cpp-python==0.3.36"
QWEN = "Qwen-Qwen2.5-7B-Instruct.jinja"
QWEN3 = "Qwen-Qwen3-0.6B.jinja"


@pytest.fixture(scope="session")
def templates():
    cache = Path(os.environ.get("TVLM_BUILD_DIR", "build")) / "pypi"
    archives = list(cache.glob("llama_cpp_python-*.tar.gz"))
    if not archives:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", PACKAGE,
                        "-d", cache], check=True)
        archives = list(cache.glob("llama_cpp_python-*.tar.gz"))
    with tarfile.open(archives[0]) as tar:
        found = [m for m in tar.getmembers() if "/models/templates/" in m.name and m.name.endswith(".jinja")]
        return {Path(m.name).name: tar.extractfile(m).read().decode() for m in found}


def test_qwen2_5(recognise, templates):  # noqa: F811
    instruct = templates[QWEN]
    base = instruct.replace(QWEN2_5, QWEN2)
    assert base != instruct
    for text, name in [(instruct, "qwen2.5"), (instruct.removesuffix("\n"), "qwen2.5"), (base, "qwen2")]:
        ((got, rendered),) = recognise([text])
        assert got == name
        assert rendered == jinja(text)


# Lines of the first release of Qwen3's that the later one has otherwise.
LATER = [
    ('== "user" and not(', '== "user" and message.content is string and not('),
    ("{%- for message in messages %}\n", "{%- for message in messages %}\n    {%- if message.content is string %}\n"
     "        {%- set content = message.content %}\n    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"),
    ("message.role + '\\n' + message.content + ", "message.role + '\\n' + content + "),
    ("        {%- set content = message.content %}\n        {%- set reasoning", "        {%- set reasoning"),
    ("message.reasoning_content is defined and message.reasoning_content is not none",
     "message.reasoning_content is string"),
    ("'</think>' in message.content", "'</think>' in content"),
    ("                {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}\n", ""),
    ("message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}",
     "content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n"
     "                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}"),
    ("{{- message.content }}", "{{- content }}"),
]


def test_qwen3(recognise, templates):  # noqa: F811
    first = later = templates[QWEN3]
    for old, new in LATER:
        assert later.count(old) == 1, old
        later = later.replace(old, new)
    for text in (first, later.removesuffix("\n")):
        ((got, rendered),) = recognise([text])
        assert got == "qwen3"
        assert rendered == jinja(text)
        assert "hm" not in "".join(rendered)


def test_no_other(recognise, templates):  # noqa: F811
    assert len(templates) > 40
    for name, (got, _) in zip(templates, recognise(list(templates.values()))):
        assert bool(got) == (name in (QWEN, QWEN3)), name
