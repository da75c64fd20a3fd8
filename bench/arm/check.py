#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the instructions of one image and ten tokens on 64-bit ARM, estimates their time on three cores, and compares the
counts with counts.json. Counts depend on the compiler: with another one than the file names, the check fails.

    bench/arm/check.py PROGRAM             fails where a count has moved by more than 1 %
    bench/arm/check.py PROGRAM --update    writes the file anew

PROGRAM is answer.c, linked statically for AArch64 (make bench-arm). Needs unicorn and LLVM 19 (scripts/deps.sh arm)."""

import argparse
import collections
import concurrent.futures
import itertools
import json
import pathlib
import re
import subprocess
import sys

import emulate
import estimate
import listing

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "bench" / "arm" / "counts.json"
MODEL = ROOT / "models" / "tinyvlm-25m.gguf"
TOLERANCE = 0.01
STEPS = [f"step {i}" for i in range(1, 10)]  # the first of ten tokens comes with the prefill
MARKS = [  # functions, and what their next call begins
    ("tvlm_image_encode", "preprocess"),
    ("tvlm_efficientnet_forward", "tower"),
    ("tvlm_pooling_forward", "bridge"),
    ("tvlm_prompt_new", "prompt"),
    ("tvlm_generation_next", "prefill"),
    *(("tvlm_generation_next", step) for step in STEPS),
    ("tvlm_generation_get_result", "end"),
]
STAGES = [name for _, name in MARKS[:-1]]  # of an answer: without loading
BOTH = {"gemm_f16_neon": "fmla", "qdwconv": "smlal"}
EXPECTED = {  # tier -> function -> what its hottest loop is made of
    "neon": {"qgemm": "smull", "gemm_q8_0_int8": "smull", **BOTH},
    "dotprod": {"tvlm_dotprod_qgemm": "sdot", "gemm_q8_0_int8": "sdot", **BOTH},
    "i8mm": {"qgemm": "smmla", "gemm_q8_0_int8": "smmla", **BOTH},
}
PRODUCTS = {"smmla": 32, "sdot": 16, "smull": 8, "smull2": 8}  # of bytes, in one instruction

Run = collections.namedtuple("Run", "stages work")  # what was executed; stage -> (multiplications, bytes of weights)


def compiler(program):
    text = subprocess.run(["llvm-readelf-19", "-p", ".comment", program], capture_output=True, text=True, check=True)
    return re.findall(r"\] *(.*)", text.stdout)[0]


def run(program, code, tier):
    addresses = {i.function: address for address, i in reversed(code.items())}
    marks = [(addresses[function], stage) for function, stage in MARKS]
    process = emulate.Process(program, ["answer", MODEL, tier], marks)
    stages = process.run()
    said = process.output.decode()
    if process.exit_code != 0 or list(stages) != ["load", *STAGES, "end"]:
        sys.exit(f"bench-arm: {tier}: exit code {process.exit_code} after {list(stages)}\n{said}")
    del stages["end"]
    work = {name: (int(macs), int(weights)) for name, macs, weights in re.findall(r"(.+) (\d+) (\d+)\n", said)}
    return Run(stages, work)


def total(stages, names):
    return sum((stages[name] for name in names), collections.Counter())


# ---- what the loops are made of ----


def hottest(loops, function):
    return next((loop for loop in loops if loop.function == function), listing.Loop(function, [], [], 0))


def check_loops(code, loops, tier):
    """The loops that the estimate is of are those that it is thought to be of."""
    for function, mnemonic in EXPECTED[tier].items():
        if mnemonic not in (code[a].mnemonic for a in hottest(loops, function).body):
            sys.exit(f"bench-arm: {tier}: the hottest loop of {function} has no {mnemonic}")


def products(code, executed, addresses):
    """Multiplications of bytes in an instruction, in the mean."""
    vectors = (a for a in addresses if code[a].operands.startswith("v"))
    macs = sum(executed[a] * PRODUCTS.get(code[a].mnemonic, 0) for a in vectors)
    return macs / sum(executed[a] for a in addresses)


# ---- tables ----


def print_stages(code, tier, run, committed):
    print(f"\n{tier:<12}{'instructions':>14}{'change':>8}{'loads, MB':>11}{'stores, MB':>12}{'weights, MB':>13}{'MMAC':>8}")
    for name, executed in run.stages.items():
        moved = collections.Counter()
        for a, n in executed.items():
            moved[code[a].mnemonic[:2]] += n * listing.memory_bytes(code[a])
        macs, weights = run.work.get(name, (0, 0))
        change = executed.total() / committed[name] - 1 if name in committed else float("nan")
        print(f"{name:<12}{executed.total():>14,}{change:>+8.1%}{moved['ld'] / 1e6:>11.1f}"
              f"{(moved['st'] + moved['dc']) / 1e6:>12.1f}{weights / 1e6:>13.1f}{macs / 1e6:>8.1f}")


def print_functions(code, tier, executed):
    of = collections.Counter()
    for a, n in executed.items():
        of[code[a].function] += n
    print(f"\n{tier:<24}{'instructions':>14}{'share':>8}")
    for name, n in of.most_common():
        if n >= 0.01 * of.total():
            print(f"{name:<24}{n:>14,}{n / of.total():>8.1%}")


def print_products(code, tier, loops, executed):
    print(f"\n{tier:<24}multiplications per instruction: hottest loop, whole function")
    for function in (function for function, mnemonic in EXPECTED[tier].items() if mnemonic in PRODUCTS):
        whole = [a for a in executed if code[a].function == function]
        inside = products(code, executed, hottest(loops, function).addresses)
        print(f"{function:<24}{inside:>8.1f}{products(code, executed, whole):>8.1f}")


def print_times(code, tier, run, loops):
    weights = {name: n for name, (_, n) in run.work.items()}
    stages = {name: run.stages[name] for name in STAGES}
    hot = estimate.hot(loops, total(run.stages, STAGES))
    share = sum(loop.executed for loop in hot) / total(run.stages, STAGES).total()
    cores = [core for core in estimate.CORES if tier in core.tiers]
    times = [estimate.milliseconds(code, hot, stages, weights, core) for core in cores]
    print(f"\n{tier}: ms by estimate (of them reading weights); {share:.0%} of the instructions in {len(hot)} hot loops")
    print(f"{'':<12}" + "".join(f"{f'{c.name}, {c.ghz} GHz':>24}" for c in cores))
    for name, parts in [*((n, [n]) for n in STAGES if n not in STEPS), ("9 steps", STEPS), ("answer", STAGES)]:
        sums = [[sum(t[p][i] for p in parts) for i in (0, 1)] for t in times]
        print(f"{name:<12}" + "".join(f"{f'{c + m:.1f} ({m:.1f})':>24}" for c, m in sums))


def report(code, tier, run, committed):
    executed = total(run.stages, STAGES)
    loops = listing.loops(code, executed)
    check_loops(code, loops, tier)
    print_stages(code, tier, run, committed)
    print_functions(code, tier, executed)
    print_products(code, tier, loops, executed)
    print_times(code, tier, run, loops)


# ---- the committed counts ----


def moved(committed, counts):
    """The stages whose count is another than it was."""
    return [
        f"{stage} of {tier}"
        for tier, stages in counts.items()
        for stage, n in stages.items()
        if abs(n - committed[tier][stage]) > TOLERANCE * committed[tier][stage]
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--update", action="store_true")
    args = parser.parse_args()
    code, built_by = listing.disassemble(args.program), compiler(args.program)
    committed = json.loads(FILE.read_text())
    if not args.update and committed["compiler"] != built_by:
        sys.exit(f"bench-arm: the counts are of {committed['compiler']}, this is {built_by}: make bench-arm UPDATE=1")
    with concurrent.futures.ProcessPoolExecutor() as pool:
        runs = dict(zip(EXPECTED, pool.map(run, itertools.repeat(args.program), itertools.repeat(code), EXPECTED)))
    for tier, done in runs.items():
        report(code, tier, done, committed.get(tier, {}))
    counts = {tier: {stage: executed.total() for stage, executed in r.stages.items()} for tier, r in runs.items()}
    if args.update:
        FILE.write_text(json.dumps({"compiler": built_by, **counts}, indent=4) + "\n")
    elif names := moved(committed, counts):
        sys.exit(f"bench-arm: moved by more than {TOLERANCE:.0%}: {', '.join(names)}; "
                 "if that is meant: make bench-arm UPDATE=1, and the tables of docs/SPEED.md")


if __name__ == "__main__":
    main()
