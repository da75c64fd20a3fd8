# SPDX-License-Identifier: MIT
"""How often each instruction of a static AArch64 program runs, stage by stage: unicorn tells when a block begins, and what
the program asks of Linux is answered here. One thread; memory is given out once and never taken back."""

import array
import collections
import itertools
import os
import struct

import unicorn
from unicorn import arm64_const as arm64

PAGE = 4096
STACK, STACK_BYTES = 0x7000_0000, 1 << 20  # its end
HEAP, HEAP_BYTES = 0x1_0000_0000, 512 << 20
ENOMEM, ENOTTY, ENOSYS = 12, 25, 38
FP, ASIMD, CRC32, ASIMDDP = 1 << 0, 1 << 1, 1 << 7, 1 << 20  # bits of AT_HWCAP
I8MM = 1 << 13  # of AT_HWCAP2
PHDR, PHENT, PHNUM, PAGESZ, ENTRY, HWCAP, RANDOM, HWCAP2 = 3, 4, 5, 6, 9, 16, 25, 26  # of the auxiliary vector
OPERANDS, SMMLA, SDOT = 0x1F03FF, 0x4E80A400, 0x4E809400
LOAD, EXECUTABLE = 1, 1  # kind and flag of a segment
SYSCALL = 2  # unicorn's number of this exception

Segment = collections.namedtuple("Segment", "kind flags offset address physical in_file in_memory align")


def round_up(n):
    return (n + PAGE - 1) // PAGE * PAGE


def without_smmla(code):
    """Unicorn has no SMMLA. SDOT of the same registers stands in for it: other sums, but the same instructions run, as no
    branch of the kernels depends on them."""
    words = array.array("I", code[: len(code) // 4 * 4])
    stand_ins = (SDOT | word & OPERANDS if word & ~OPERANDS == SMMLA else word for word in words)
    return array.array("I", stand_ins).tobytes() + code[len(code) // 4 * 4 :]


class Process:
    """A program, loaded. marks: pairs of the address of a function and the stage that its next call begins, in order."""

    def __init__(self, program, arguments, marks):
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm64.UC_CPU_ARM64_MAX)
        self.heap, self.output, self.exit_code = HEAP, b"", None
        self.uc.mem_map(HEAP, HEAP_BYTES)
        self.uc.mem_map(STACK - STACK_BYTES, STACK_BYTES)
        self.start(arguments, self.load(program.read_bytes()))
        self.marks, self.stages = list(marks), {}

    def load(self, elf):
        """Places the segments; what the C library needs to know of them."""
        entry, table = struct.unpack_from("<QQ", elf, 24)
        size, n = struct.unpack_from("<HH", elf, 54)
        headers = (Segment(*struct.unpack_from("<IIQQQQQQ", elf, table + i * size)) for i in range(n))
        segments = [segment for segment in headers if segment.kind == LOAD]
        self.begin = min(s.address for s in segments) // PAGE * PAGE
        self.end = round_up(max(s.address + s.in_memory for s in segments))
        self.uc.mem_map(self.begin, self.end - self.begin)
        for s in segments:
            part = elf[s.offset : s.offset + s.in_file]
            self.uc.mem_write(s.address, without_smmla(part) if s.flags & EXECUTABLE else part)
        first = next(s.address for s in segments if s.offset == 0)
        return {PHDR: first + table, PHENT: size, PHNUM: n, PAGESZ: PAGE, ENTRY: entry}

    def start(self, arguments, aux):
        """Stack and registers as Linux leaves them to a new program."""
        text, places = STACK - PAGE, []
        for argument in arguments:
            data = str(argument).encode() + b"\0"
            self.uc.mem_write(text, data)
            places.append(text)
            text += len(data)
        aux |= {RANDOM: STACK - 16, HWCAP: FP | ASIMD | CRC32 | ASIMDDP, HWCAP2: I8MM}
        words = [len(places), *places, 0, 0, *itertools.chain(*aux.items()), 0, 0]
        stack = STACK - 2 * PAGE
        self.uc.mem_write(stack, struct.pack(f"<{len(words)}Q", *words))
        self.uc.reg_write(arm64.UC_ARM64_REG_SP, stack)
        self.uc.reg_write(arm64.UC_ARM64_REG_PC, aux[ENTRY])

    # ---- counting ----

    def run(self):
        """To the program's end; stage -> address -> how often the instruction there ran."""
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self.on_interrupt)
        for address in {address for address, _ in self.marks}:
            self.uc.hook_add(unicorn.UC_HOOK_CODE, self.on_mark, begin=address, end=address)
        self.uc.hook_add(unicorn.UC_HOOK_BLOCK, self.on_block)
        self.enter("load")
        self.uc.emu_start(self.uc.reg_read(arm64.UC_ARM64_REG_PC), 0)
        return {name: self.executed(edges) for name, edges in self.stages.items()}

    def executed(self, edges):
        places = zip(itertools.count(self.begin, 4), itertools.accumulate(edges))
        return collections.Counter({address: n for address, n in places if n})

    def enter(self, name):
        self.edges = self.stages[name] = array.array("q", bytes(8 * ((self.end - self.begin) // 4 + 1)))

    def on_mark(self, uc, address, size, user):
        if self.marks and self.marks[0][0] == address:
            self.enter(self.marks.pop(0)[1])

    def on_block(self, uc, address, size, user):
        at = (address - self.begin) >> 2
        self.edges[at] += 1
        self.edges[at + (size >> 2)] -= 1

    # ---- Linux ----

    def on_interrupt(self, uc, number, user):
        if number != SYSCALL:
            raise RuntimeError(f"exception {number} at {uc.reg_read(arm64.UC_ARM64_REG_PC):#x}")
        call = uc.reg_read(arm64.UC_ARM64_REG_X8)
        arguments = [uc.reg_read(arm64.UC_ARM64_REG_X0 + i) for i in range(6)]
        uc.reg_write(arm64.UC_ARM64_REG_X0, CALLS[call](self, *arguments) & (1 << 64) - 1)

    def string(self, address):
        return bytes(itertools.takewhile(bool, (self.uc.mem_read(address + i, 1)[0] for i in itertools.count()))).decode()

    def openat(self, folder, path, *_):
        return os.open(self.string(path), os.O_RDONLY)

    def close(self, file, *_):
        os.close(file)
        return 0

    def fstat(self, file, out, *_):
        info = os.fstat(file)
        self.uc.mem_write(out, struct.pack("<16xI28xQ", info.st_mode, info.st_size))
        return 0

    def pread(self, file, out, n, offset, *_):
        data = os.pread(file, n, offset)
        self.uc.mem_write(out, data)
        return len(data)

    def writev(self, file, parts, n, *_):
        pieces = [bytes(self.uc.mem_read(*part)) for part in struct.iter_unpack("<QQ", self.uc.mem_read(parts, 16 * n))]
        self.output += b"".join(pieces)
        return sum(map(len, pieces))

    def mmap(self, address, size, *_):
        block, self.heap = self.heap, self.heap + round_up(size)
        return block if self.heap <= HEAP + HEAP_BYTES else -ENOMEM

    def exit(self, code, *_):
        self.exit_code = code
        self.uc.emu_stop()
        return 0


def gives(value):
    return lambda *_: value


CALLS = {
    25: gives(0),  # fcntl
    29: gives(-ENOTTY),  # ioctl
    56: Process.openat,
    57: Process.close,
    66: Process.writev,
    67: Process.pread,
    80: Process.fstat,
    94: Process.exit,
    96: gives(1),  # set_tid_address
    113: gives(0),  # clock_gettime: the clock stands
    123: gives(-ENOSYS),  # sched_getaffinity
    214: gives(-ENOMEM),  # brk
    215: gives(0),  # munmap
    216: gives(-ENOMEM),  # mremap
    222: Process.mmap,
    226: gives(0),  # mprotect
    233: gives(0),  # madvise
}
