#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants the faults of tests/mutations.json one at a time and reports those that no test sees.

    scripts/mutate.py                plant all in a scratch copy, build, run each fault's tests
    scripts/mutate.py --only REGEX   those whose file or text matches
    scripts/mutate.py --check        only look whether every fault still applies

A fault's tests are C tests (test_base, fuzz-bpe), pytest files or node files, the latter two with ::NAME for one test. If all
of them pass, every test of that part of the tree runs. A fault is caught when it compiles and a test fails. The scratch copy
is build/mutate/tree, the log build/mutate/log.jsonl: a run goes on where the last one stopped, and plants a caught fault
again only when its entry or file has changed; --again forgets the log."""
import argparse
import hashlib
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "tests/mutations.json"
WORK = ROOT / "build/mutate"
TREE, BUILD, LOG = WORK / "tree", WORK / "tree/build", WORK / "log.jsonl"
PYTHON = ROOT / "build/venv/bin/python"
# A compiled fault is not worth a place in the cache.
PLANTED = {"CCACHE_READONLY": "1"}
# What is run when a fault's own tests pass, by the first folder of its file.
WIDER = {"src": ["unit", "golden", "kernels", "fuzz"], "app": ["unit", "golden", "fuzz", "tests/cli"],
         "js": ["tests/js/node.test.mjs", "tests/js/hostile.test.mjs", "tests/js/download.test.mjs"]}


def label(fault):
    return f"{fault['file']}: {fault['old'].strip().splitlines()[0][:60]}"


def is_c(test):
    return not test.startswith("tests/")


def target(test):
    return test if is_c(test) else "tinyvlm-cli"


def unknown(test):
    if is_c(test):
        return target(test) not in {p.stem.replace("fuzz_", "fuzz-") for p in (ROOT / "tests").rglob("*.c")} | {"test-kernels"}
    path, _, name = test.partition("::")
    return not (ROOT / path).exists() or name not in (ROOT / path).read_text(encoding="utf-8")


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
    bad = [t for t in fault["tests"] if unknown(t)]
    return f"no tests {bad}" if bad or not fault["tests"] else None


def check(faults):
    bad = [f"{label(f)}: {why}" for f in faults if (why := wrong(f))]
    print("\n".join(bad) or f"{len(faults)} faults apply")
    return not bad


def limit():
    """A fault may loop for ever: processor time, as the machine may be busy."""
    resource.setrlimit(resource.RLIMIT_CPU, (300, 300))


def run(command, log, environment=None, seconds=3600, **options):
    """Whether it succeeds; `timeout` ends its children too."""
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.run(["timeout", str(seconds), *map(str, command)], stdout=out, stderr=out, check=False, preexec_fn=limit,
                              env={**os.environ, **(environment or {})}, **options).returncode == 0


def tracked():
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout
    return [n for n in sorted(names.split("\0")) if n and (ROOT / n).is_file()]


def copy():
    """The tree into the scratch copy; a file that is the same keeps its time, one that is gone goes."""
    names = tracked()
    for folder in {n.split("/")[0] for n in names if "/" in n}:
        for path in (TREE / folder).rglob("*.[ch]"):
            if str(path.relative_to(TREE)) not in names:
                path.unlink()
    for name in names:
        data, to = (ROOT / name).read_bytes(), TREE / name
        if not to.is_file() or to.read_bytes() != data:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)
            to.chmod((ROOT / name).stat().st_mode & 0o777)


def build(targets, environment=None):
    return run(["cmake", "--build", BUILD, "--parallel", "1", "--target", *sorted(set(targets))], WORK / "build.log", environment)


def ctest(*options):
    return run(["ctest", "--test-dir", BUILD, "--no-tests=error", "--stop-on-failure", "--timeout", "300", *options],
               WORK / "test.log")


def python(path):
    return run([PYTHON, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", path], WORK / "test.log",
               {"TVLM_BIN": str(BUILD / "tinyvlm"), "TVLM_BUILD_DIR": str(BUILD), "TVLM_TEST_DATA": str(TREE / "tests/data")},
               cwd=TREE)


def node(path):
    path, _, name = path.partition("::")
    only = [f"--test-name-pattern={re.escape(name)}"] if name else []
    return run(["node", "--test", *only, path], WORK / "test.log", cwd=TREE, seconds=900)


def first_failure(tests):
    """The first of the tests that fails, or None. C tests run as one."""
    named = [t for t in tests if is_c(t)]
    if named and not ctest("-R", "^(" + "|".join(map(re.escape, named)) + ")$"):
        return " or ".join(named)
    return next((t for t in tests if not is_c(t) and not (node if ".mjs" in t else python)(t)), None)


def first_wider_failure(fault):
    groups = WIDER[fault["file"].split("/")[0]]
    labels = [g for g in groups if is_c(g)]
    if labels and not (build(["sanitized-tests", "tinyvlm-cli"], PLANTED) and ctest("-L", "|".join(labels))):
        failed = re.search(r"^\s*\d+ - (\S+) \(", (WORK / "test.log").read_text(encoding="utf-8", errors="replace"), re.M)
        return failed[1] if failed else "|".join(labels)
    return first_failure([g for g in groups if not is_c(g)])


def plant(fault):
    """(outcome, the test that failed)"""
    path = TREE / fault["file"]
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")
    try:
        if not build(map(target, fault["tests"]), PLANTED):
            return "does not build", None
        if by := first_failure(fault["tests"]):
            return "caught", by
        by = first_wider_failure(fault)
        return ("caught late", by) if by else ("SURVIVED", None)
    finally:
        path.write_text(text, encoding="utf-8")


def prepare_javascript():
    sources = [p for folder in ("src", "include", "js/wasm") for p in (TREE / folder).rglob("*") if p.is_file()]
    built = list((TREE / "js/dist").glob("*.wasm"))
    if not built or max(p.stat().st_mtime for p in sources) > min(p.stat().st_mtime for p in built):
        print("building the WebAssembly modules", flush=True)
        if not run(["scripts/wasm.sh", "modules"], WORK / "build.log", cwd=TREE):
            sys.exit(f"WebAssembly does not build: {WORK / 'build.log'}")
    modules = TREE / "tests/js/node_modules"
    if not modules.exists():
        modules.symlink_to(ROOT / "tests/js/node_modules")


def prepare(faults):
    options = ["-DTVLM_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release"]
    if subprocess.run(["sh", "-c", "command -v ccache"], capture_output=True, check=False).returncode == 0:
        options.append("-DCMAKE_C_COMPILER_LAUNCHER=ccache")
    tests = sorted({t for f in faults for t in f["tests"]})
    print(f"building and running {len(tests)} tests without a fault", flush=True)
    if not run(["cmake", "-S", TREE, "-B", BUILD, *options], WORK / "build.log") or not build(map(target, tests)):
        sys.exit(f"the tree does not build: {WORK / 'build.log'}")
    if any(".mjs" in t for t in tests):
        prepare_javascript()
    if failed := first_failure(tests):
        sys.exit(f"{failed} fails without a fault: {WORK / 'test.log'}")


def key(fault):
    text = json.dumps(fault) + (ROOT / fault["file"]).read_text(encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def caught_before():
    """{key: outcome} of the log's faults that a test saw; a last line that was cut off is let be."""
    known = {}
    for line in LOG.read_text(encoding="utf-8").splitlines() if LOG.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["outcome"].startswith("caught"):
            known[entry["key"]] = entry["outcome"], entry["by"]
    return known


def plant_all(faults, outcomes):
    begin = time.monotonic()
    for done, fault in enumerate(faults, 1):
        outcome, by = outcomes[key(fault)] = plant(fault)
        with open(LOG, "a", encoding="utf-8") as log:
            print(json.dumps({"key": key(fault), "fault": label(fault), "outcome": outcome, "by": by}), file=log)
        left = (time.monotonic() - begin) / done * (len(faults) - done)
        print(f"{done}/{len(faults)}  {outcome:14}  {label(fault)}  ({left / 60:.0f} min left)", flush=True)


def report(faults, outcomes):
    """Prints what was not caught, and what only tests caught that the entry does not name; whether all were caught."""
    missed = 0
    for fault in faults:
        outcome, by = outcomes[key(fault)]
        missed += not outcome.startswith("caught")
        if outcome != "caught":
            print(f"{outcome}: {label(fault)} -> {fault['new'].strip()[:60]!r}, {f'by {by}' if by else fault['tests']}")
    print(f"{len(faults)} faults, {len(faults) - missed} caught")
    return not missed


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
    copy()
    if options.again:
        LOG.unlink(missing_ok=True)
    outcomes = caught_before()
    if left := [f for f in faults if key(f) not in outcomes]:
        prepare(left)
        plant_all(left, outcomes)
    return 0 if report(faults, outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
