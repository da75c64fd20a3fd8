#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the instructions of ten small workloads and compares them with instructions.json: a slow-down shows on a busy
machine too. Counts depend on the compiler, so with another one than the file names nothing is compared (exit code 77).

    bench/check/check.py BUILD-DIR             fails where a count has grown by more than 2 %
    bench/check/check.py BUILD-DIR --update    writes the file anew

Needs valgrind (scripts/deps.sh test) and the targets tinyvlm-cli and workloads."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "bench" / "check" / "instructions.json"
TOLERANCE = 0.02
SKIP = 77
WORKLOADS = [  # name, model
    ("load", "q8_0"),
    ("preprocess", "q8_0"),
    ("encode", "q8_0"),
    ("prefill", "q8_0"),
    ("decode", "q8_0"),
    ("tokenize", "q8_0"),
    ("sample", "q8_0"),
    ("prefill", "q4_0"),
    ("decode", "q4_0"),
    ("encode", "fastvlm"),
]


def skip(why):
    print(f"bench-check: skipped: {why}")
    sys.exit(SKIP)


def compiler(build):
    cache = (build / "CMakeCache.txt").read_text()
    path = re.search(r"^CMAKE_C_COMPILER:\w+=(.*)$", cache, re.M)[1]
    kind = re.search(r"^CMAKE_BUILD_TYPE:\w+=(.*)$", cache, re.M)[1]
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return f"{re.sub(r'^(cc|gcc)(-[0-9]+)? ', 'GCC ', version)}, {kind}"  # it begins with the name it was called by


def make_models(build, folder):
    """The bundled model (Q8_0, int8 tower), the same in Q4_0, and the tiny FastVLM of the tests in float32."""
    bundled, tiny = ROOT / "models" / "tinyvlm-25m.gguf", ROOT / "tests" / "data" / "golden" / "tiny"
    q4, fastvlm = folder / "q4_0.gguf", folder / "fastvlm.gguf"
    program = build / "tinyvlm"
    subprocess.run([program, "quantize", bundled, q4, "--type", "q4_0", "-q"], check=True)
    subprocess.run([program, "convert", tiny, fastvlm, "--type", "f32", "-q"], check=True)
    return {"q8_0": bundled, "q4_0": q4, "fastvlm": fastvlm}


def count(build, folder, name, model):
    out = folder / f"{name}-{model.stem}.callgrind"
    command = ["valgrind", "--tool=callgrind", "--toggle-collect=counted", f"--callgrind-out-file={out}"]
    done = subprocess.run(
        [*command, build / "bench" / "workloads", name, model],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    total = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M) if out.exists() else None
    if done.returncode or not total or int(total[1]) == 0:
        sys.exit(f"bench-check: {name} of {model}: exit code {done.returncode}\n{done.stderr}")
    return int(total[1])


def count_all(build):
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = pathlib.Path(folder)
        models = make_models(build, folder)
        counts = pool.map(lambda w: count(build, folder, w[0], models[w[1]]), WORKLOADS)
        return {f"{name} {model}": n for (name, model), n in zip(WORKLOADS, counts)}


def compare(old, new):
    """Prints the table; the names of those that grew too much."""
    grown = []
    print(f"{'workload':<20}{'instructions':>14}{'committed':>14}{'change':>9}")
    for name, n in new.items():
        change = n / old[name] - 1 if name in old else float("nan")
        print(f"{name:<20}{n:>14,}{old.get(name, 0):>14,}{f'{100 * change:+.1f}%' if name in old else 'new':>9}")
        if not change <= TOLERANCE:
            grown.append(name)
    return grown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    build = args.build.resolve()
    if platform.machine() != "x86_64" or "avx2" not in pathlib.Path("/proc/cpuinfo").read_text():
        skip("the counts are of x86-64 with AVX2")
    if not shutil.which("valgrind"):
        skip("no valgrind: scripts/deps.sh test installs it")
    committed = json.loads(FILE.read_text())
    if not args.update and committed["compiler"] != compiler(build):
        skip(f"the counts are of {committed['compiler']}, this is {compiler(build)}")
    counts = count_all(build)
    grown = compare(committed["instructions"], counts)
    if args.update:
        FILE.write_text(json.dumps({"compiler": compiler(build), "instructions": counts}, indent=4) + "\n")
    elif grown:
        sys.exit(f"bench-check: slower by more than {100 * TOLERANCE:.0f} %: {', '.join(grown)}; "
                 "if that is meant: make bench-check UPDATE=1")


if __name__ == "__main__":
    main()
