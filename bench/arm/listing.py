# SPDX-License-Identifier: MIT
"""A program's instructions, as llvm-objdump writes them: functions, loops, bytes of memory that an instruction takes."""

import collections
import re
import subprocess

REGISTER_BYTES = {"q": 16, "x": 8, "d": 8, "w": 4, "s": 4, "h": 2, "b": 1}
BRANCH = re.compile(r"b|b\..*|cbn?z|tbn?z")

Instruction = collections.namedtuple("Instruction", "function mnemonic operands target")
Loop = collections.namedtuple("Loop", "function addresses body executed")


def disassemble(program):
    """Address -> instruction."""
    text = subprocess.run(
        ["llvm-objdump-19", "-d", "--no-show-raw-insn", program], capture_output=True, text=True, check=True
    ).stdout
    function, code = None, {}
    for line in text.splitlines():
        if begins := re.fullmatch(r"[0-9a-f]+ <(.+)>:", line):
            function = begins[1]
        elif found := re.match(r" *([0-9a-f]+):\s+(\S+)\s*([^/]*)", line):
            target = re.search(r"0x([0-9a-f]+) <", found[3])
            code[int(found[1], 16)] = Instruction(function, found[2], found[3].strip(), target and int(target[1], 16))
    return code


def memory_bytes(i):
    """That the instruction loads or stores: 0 of most."""
    registers = i.operands.split("[")[0]
    if several := re.fullmatch(r"(?:ld|st)[1-4](r?)", i.mnemonic):
        lanes = re.findall(r"v\d+\.(\d*)([bhsd])", i.operands)  # without a number: one lane, as ld1r takes
        return sum((int(n) if n and not several[1] else 1) * REGISTER_BYTES[kind] for n, kind in lanes)
    if (i.mnemonic, i.operands[:3]) == ("dc", "zva"):
        return 64
    if not (one := re.fullmatch(r"(?:ld|st)[a-z]*?([rp])(s?[bhw])?", i.mnemonic)):
        return 0
    size = one[2][-1] if one[2] else re.findall(r"\b([qxdwshb])(?:\d+|zr)", registers)[-1]
    return REGISTER_BYTES[size] * (2 if one[1] == "p" else 1)


def functions(code):
    """Function by function, the addresses of its instructions."""
    out, last = [], None
    for address, i in code.items():
        if i.function != last:
            out.append([])
        out[-1].append(address)
        last = i.function
    return out


def turns_back(code, addresses, executed):
    """(target, branch) of a function's branches that ran and lead back."""
    branches = ((code[a].target, a) for a in addresses if executed[a] and BRANCH.fullmatch(code[a].mnemonic))
    return [(target, a) for target, a in branches if target and addresses[0] <= target <= a]


def innermost(spans):
    """Those that hold no other; loops that share instructions are one, entered at two places."""
    out = []
    for begin, end in sorted(s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)):
        if out and begin <= out[-1][1]:
            begin = out.pop()[0]
        out.append((begin, end))
    return out


def loops(code, executed):
    """The innermost loops that ran, most executed first; body: what ran in at least half of their turns."""
    out = []
    for addresses in functions(code):
        for begin, end in innermost(turns_back(code, addresses, executed)):
            inside = range(begin, end + 4, 4)
            turns = max(executed[a] for a in inside)
            body = [a for a in inside if 2 * executed[a] >= turns]
            out.append(Loop(code[begin].function, inside, body, sum(executed[a] for a in inside)))
    return sorted(out, key=lambda loop: -loop.executed)
