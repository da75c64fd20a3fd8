# SPDX-License-Identifier: MIT
"""Milliseconds by estimate: instructions counted one by one, cycles of the hot loops from llvm-mca's models of the cores, the
rest at an assumed number of instructions a cycle, weights at an assumed bandwidth of memory."""

import collections
import json
import re
import subprocess

TURNS = 100
HOT = 0.001  # share of an answer's instructions from which on a loop has its own estimate

# model: of llvm-mca. rest: instructions a cycle outside of hot loops. bandwidth: GB/s that one core reads.
Core = collections.namedtuple("Core", "name model ghz rest bandwidth tiers")
CORES = [
    Core("Cortex-A55", "cortex-a55", 1.8, 0.7, 4, ("neon", "dotprod")),
    Core("Cortex-A76", "neoverse-n1", 2.4, 1.5, 10, ("neon", "dotprod")),  # its twin: A76 has no model of its own
    Core("Cortex-A710", "cortex-a710", 2.5, 2.0, 15, ("neon", "dotprod", "i8mm")),
]


def assembly(code, loop):
    lines = (f"{code[a].mnemonic} {re.sub(r'0x[0-9a-f]+ <.*>', '.', code[a].operands)}" for a in loop.body)
    return "\n".join(["# LLVM-MCA-BEGIN", *lines, "# LLVM-MCA-END", ""])


def cycles_per_turn(code, loops, core):
    """Of each loop, when it runs for long and all its data is in the nearest cache."""
    done = subprocess.run(
        ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={core.model}", f"-iterations={TURNS}", "-json"],
        input="".join(assembly(code, loop) for loop in loops),
        capture_output=True,
        text=True,
        check=True,
    )
    return [region["SummaryView"]["TotalCycles"] / TURNS for region in json.loads(done.stdout)["CodeRegions"]]


def hot(loops, executed):
    least = HOT * sum(executed.values())
    return [loop for loop in loops if loop.executed >= least]


def milliseconds(code, loops, stages, weights, core):
    """Stage -> (computing, reading weights). stages: name -> address -> how often."""
    per_instruction = [
        cycles / len(loop.body) for cycles, loop in zip(cycles_per_turn(code, loops, core), loops)
    ]
    out = {}
    for name, executed in stages.items():
        inside = [sum(executed[a] for a in loop.addresses) for loop in loops]
        cycles = sum(n * per for n, per in zip(inside, per_instruction))
        cycles += (sum(executed.values()) - sum(inside)) / core.rest
        out[name] = cycles / core.ghz / 1e6, weights.get(name, 0) / core.bandwidth / 1e6
    return out
