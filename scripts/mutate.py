#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants the faults of tests/mutations.json one at a time and reports those that no test sees.

    scripts/mutate.py                plant all in a scratch copy, build, run each fault's tests
    scripts/mutate.py --only REGEX   those whose file or text matches
    scripts/mutate.py --check        only look whether every fault still applies

A fault is caught when it compiles and one of its tests fails. The scratch copy is build/mutate/tree. An interrupted run
goes on where it stopped as long as the tree is the same; --again forgets what it knew."""
import argparse
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "tests/mutations.json"
WORK = ROOT / "build/mutate"
TREE, BUILD, RESULTS = WORK / "tree", WORK / "tree/build", WORK / "results.json"


def label(fault):
    return f"{fault['file']}: {fault['old'].strip().splitlines()[0][:60]}"


def wrong(fault):
    """Why the entry cannot be planted, or None."""
    path = ROOT / fault["file"]
    if not path.is_file():
        return "there is no such file"
    found = path.read_text(encoding="utf-8").count(fault["old"])
    if found != 1:
        return f"its old text occurs {found} times"
    if fault["old"] == fault["new"]:
        return "it changes nothing"
    sources = {p.stem for p in (ROOT / "tests").rglob("*.c")} | {"test-kernels"}
    unknown = [t for t in fault["tests"] if t not in sources and not t.startswith("fuzz-")]
    return f"no tests {unknown}" if unknown or not fault["tests"] else None


def check(faults):
    bad = [f"{label(f)}: {why}" for f in faults if (why := wrong(f))]
    print("\n".join(bad) or f"{len(faults)} faults apply")
    return not bad


def run(command, log, **options):
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.run(command, stdout=out, stderr=out, check=False, **options).returncode == 0


def tracked():
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout
    return [n for n in sorted(names.split("\0")) if n and (ROOT / n).is_file()]


def copy(names):
    """The tree into the scratch copy; a file that is the same keeps its time. Returns a digest of all."""
    digest = hashlib.sha256()
    for name in names:
        data, to = (ROOT / name).read_bytes(), TREE / name
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        if not to.is_file() or to.read_bytes() != data:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)
            to.chmod((ROOT / name).stat().st_mode & 0o777)
    return digest.hexdigest()


def build(targets):
    return run(["cmake", "--build", str(BUILD), "--parallel", "1", "--target", *targets], WORK / "build.log")


def test(names):
    pattern = "^(" + "|".join(map(re.escape, names)) + ")$"
    return run(["ctest", "--test-dir", str(BUILD), "--no-tests=error", "--timeout", "120", "-R", pattern], WORK / "test.log")


def plant(fault):
    path = TREE / fault["file"]
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")
    try:
        if not build(fault["tests"]):
            return "does not build"
        return "SURVIVED" if test(fault["tests"]) else "caught"
    finally:
        path.write_text(text, encoding="utf-8")


def prepare(faults):
    options = ["-DTVLM_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release"]
    if subprocess.run(["sh", "-c", "command -v ccache"], capture_output=True, check=False).returncode == 0:
        options.append("-DCMAKE_C_COMPILER_LAUNCHER=ccache")
    tests = sorted({t for f in faults for t in f["tests"]})
    print(f"building {len(tests)} tests", flush=True)
    if not run(["cmake", "-S", str(TREE), "-B", str(BUILD), *options], WORK / "build.log") or not build(tests):
        sys.exit(f"the tree does not build: {WORK / 'build.log'}")
    if not test(tests):
        sys.exit(f"tests fail without a fault: {WORK / 'test.log'}")


def known(tree, again):
    if again or not RESULTS.is_file():
        return {}
    old = json.loads(RESULTS.read_text())
    return old["outcomes"] if old["tree"] == tree else {}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true")
    options.add_argument("--only", metavar="REGEX", default="")
    options.add_argument("--again", action="store_true")
    options = options.parse_args()
    faults = json.loads(LIST.read_text(encoding="utf-8"))
    applies = check(faults)
    if options.check or not applies:
        return 0 if applies else 1
    faults = [f for f in faults if re.search(options.only, f"{f['file']} {f['old']}")]
    if not faults:
        sys.exit("no fault is chosen")
    WORK.mkdir(parents=True, exist_ok=True)
    os.nice(19)
    tree = copy(tracked())
    outcomes = known(tree, options.again)
    left = [f for f in faults if json.dumps(f) not in outcomes]
    if left:
        prepare(left)
    begin = time.monotonic()
    for done, fault in enumerate(left, 1):
        outcome = outcomes[json.dumps(fault)] = plant(fault)
        RESULTS.write_text(json.dumps({"tree": tree, "outcomes": outcomes}))
        rest = (time.monotonic() - begin) / done * (len(left) - done)
        print(f"{done}/{len(left)}  {outcome:14}  {label(fault)}  ({rest / 60:.0f} min left)", flush=True)
    table = [(outcomes[json.dumps(f)], f) for f in faults]
    failed = [(outcome, f) for outcome, f in table if outcome != "caught"]
    print(f"\n{len(table)} faults, {len(table) - len(failed)} caught")
    for outcome, f in failed:
        print(f"{outcome}: {label(f)} -> {f['new'].strip()[:60]!r}, by {', '.join(f['tests'])}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
