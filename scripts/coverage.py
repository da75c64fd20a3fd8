#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lines and branches that the C tests run, per folder: builds in build/coverage with clang, runs them, prints a table. --program
runs those of the program as well, which takes many times as long; --files lists each file, --only-report measures nothing anew."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/coverage"
PROFILES, MERGED = BUILD / "profiles", BUILD / "merged.profdata"
LABELS, PROGRAM = "sanitized", "|cli|text|image"


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), check=False, **options)
    if done.returncode:
        sys.exit(f"{command[0]} failed")
    return done


def measure(labels):
    """Whether all tests passed."""
    jobs = os.environ.get("JOBS", "2")
    flags = "-fprofile-instr-generate -fcoverage-mapping"
    launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    run("cmake", "-S", ROOT, "-B", BUILD, "-DTVLM_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_C_COMPILER=clang",
        f"-DCMAKE_C_FLAGS={flags}", *launcher, stdout=subprocess.DEVNULL)
    targets = ["all"] if PROGRAM in labels else ["sanitized-tests", "tinyvlm-cli"]
    run("cmake", "--build", BUILD, "--parallel", jobs, "--target", *targets, stdout=subprocess.DEVNULL)
    shutil.rmtree(PROFILES, ignore_errors=True)
    # %m: programs of one build share a file, whose counts they add to
    environment = {**os.environ, "LLVM_PROFILE_FILE": str(PROFILES / "%m.profraw")}
    done = subprocess.run(["ctest", "--test-dir", BUILD, "--output-on-failure", "--no-tests=error", "--parallel", jobs, "-L", f"^({labels})$",
                           "-LE", "long"], env=environment, check=False)
    run("llvm-profdata", "merge", "-sparse", *PROFILES.glob("*.profraw"), "-o", MERGED)
    return done.returncode == 0


def counted():
    """[(path below the root, its summary)]"""
    # not the archives: llvm-cov refuses one with a member that has no code, as those of other systems
    compiled = sorted(BUILD.glob("CMakeFiles/tinyvlm*.dir/**/*.o"))
    first, *more = [path for path in compiled if b"__llvm_covmap" in path.read_bytes()]
    objects = [word for path in more for word in ("-object", path)]
    done = run("llvm-cov", "export", "-summary-only", f"-instr-profile={MERGED}", first, *objects, stdout=subprocess.PIPE)
    files = json.loads(done.stdout)["data"][0]["files"]
    return [(str(pathlib.Path(f["filename"]).resolve().relative_to(ROOT)), f["summary"]) for f in files]


def percent(summaries, what):
    count = sum(s[what]["count"] for s in summaries)
    covered = sum(s[what]["covered"] for s in summaries)
    return f"{100 * covered / count:.1f} %" if count else "-"


def table(rows):
    print("| folder | lines | | branches | |\n|---|---:|---:|---:|---:|")
    for name, summaries in rows:
        total = [sum(s[what]["count"] for s in summaries) for what in ("lines", "branches")]
        print(f"| `{name}` | {total[0]:,} | {percent(summaries, 'lines')} | {total[1]:,} | {percent(summaries, 'branches')} |")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--files", action="store_true")
    options.add_argument("--program", action="store_true")
    options.add_argument("--only-report", action="store_true")
    options = options.parse_args()
    if not shutil.which("llvm-cov") or not shutil.which("llvm-profdata"):
        sys.exit("llvm-cov and llvm-profdata are missing: install llvm, of clang's version")
    fine = options.only_report or measure(LABELS + (PROGRAM if options.program else ""))
    files = [(path, s) for path, s in counted() if path.startswith(("src/", "app/"))]
    names = sorted({path if options.files else str(pathlib.Path(path).parent) for path, _ in files})
    table([(n, [s for path, s in files if path == n or str(pathlib.Path(path).parent) == n]) for n in names])
    table([(n, [s for path, s in files if path.startswith(n)]) for n in ("src", "app")])
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
