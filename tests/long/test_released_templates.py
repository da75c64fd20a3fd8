# SPDX-License-Identifier: MIT
"""Chat templates of released checkpoints, as the source archive of PyPI's llama-cpp-python has them.

What is recognised renders to what Jinja makes of it; of all of them only Qwen2.5's is one of our forms."""

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


def test_no_other(recognise, templates):  # noqa: F811
    assert len(templates) > 40
    for name, (got, _) in zip(templates, recognise(list(templates.values()))):
        assert bool(got) == (name == QWEN), name
