# SPDX-License-Identifier: MIT
"""Runs the built program: TVLM_BIN, or build/tinyvlm."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TVLM_BIN", ROOT / "build" / "tinyvlm")).resolve()
DATA = pathlib.Path(os.environ.get("TVLM_TEST_DATA", ROOT / "tests" / "data"))
GOLDEN = DATA / "golden"
IMAGES = DATA / "images"
PICTURE = GOLDEN / "image_100x150.png"
LAYOUTS = ["tiny", "tiny_hf", "tiny_unfused"]
PATIENCE = 300  # seconds for what takes one on an idle machine

# The same for whoever runs the tests: nohup ignores signals, and so do shells for what runs in the background.
for name in ("TINYVLM_MODEL", "TVLM_CPU"):
    os.environ.pop(name, None)
os.environ.update(LC_ALL="C.UTF-8", EDITRC=os.devnull)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


class Run:
    """A finished run: code, out (text), raw (bytes), err."""

    def __init__(self, done):
        self.code, self.raw, self.err = done.returncode, done.stdout, done.stderr.decode()
        self.out = done.stdout.decode("utf-8", "replace")

    def json(self):
        return [json.loads(line) for line in self.out.splitlines()]


def run(*args, stdin=b"", env=None, cwd=None):
    return Run(
        subprocess.run(
            [str(BIN), *map(str, args)],
            input=stdin,
            capture_output=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            timeout=PATIENCE,
            check=False,
        )
    )


def ok(*args, **options):
    done = run(*args, **options)
    assert done.code == 0, done.err
    return done


def refused(code, message, *args, **options):
    """The run ends with this exit code and one line on standard error that says `message`."""
    done = run(*args, **options)
    assert done.code == code, (done.code, done.err)
    assert done.err.startswith("tinyvlm: ") and message in done.err, done.err
    assert done.err.count("\n") == 1, done.err
    return done


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def wait_for_handler(process, number):
    """Until the program catches the signal, which it does first of all."""

    def caught():
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        return int(re.search(r"SigCgt:\t(\w+)", status)[1], 16) >> (number - 1) & 1

    wait_for(caught)


def asleep(pid):
    """Whether the main thread waits for something; or there is no other any more."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "SZ"


def convert(layout, out, *options):
    return ok("convert", GOLDEN / layout, out, "--tokenizer", GOLDEN / "tiny", *options)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """{layout: f32 model} of the tiny checkpoints."""
    folder = tmp_path_factory.mktemp("models")
    for layout in LAYOUTS:
        convert(layout, folder / f"{layout}.gguf", "--type", "f32")
    return {layout: folder / f"{layout}.gguf" for layout in LAYOUTS}


@pytest.fixture(scope="session")
def model(models):
    return models["tiny"]
