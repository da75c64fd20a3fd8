# SPDX-License-Identifier: MIT
"""What gguf.GGUFReader takes at its word, and makes an object of each: the number of values in a GGUF file's arrays."""

import mmap
import struct

MOST_VALUES = 1 << 21  # of all arrays together; vocabularies of 262,144 entries have three arrays of them
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


class Damaged(ValueError):
    """The message names the key."""


class Header:
    def __init__(self, data):
        self.data, self.at, self.values, self.key = data, 0, 0, None

    def room(self, count, size):
        if count > (len(self.data) - self.at) // size:
            raise Damaged(f"key '{self.key}': {count:,} values of {size} bytes, beyond the end of the file")

    def skip(self, count, size):
        self.room(count, size)
        self.at += count * size

    def number(self, form):
        self.skip(1, struct.calcsize(form))
        return struct.unpack_from("<" + form, self.data, self.at - struct.calcsize(form))[0]

    def text(self):
        size = self.number("Q")
        self.skip(size, 1)
        return self.data[self.at - size:self.at].decode(errors="replace")

    def values_of(self, kind, count):
        if kind in SIZES:
            self.skip(count, SIZES[kind])
        elif kind == STRING:
            self.room(count, 8)  # of its length
            for _ in range(count):
                self.text()
        else:
            raise Damaged(f"key '{self.key}': values of type {kind}")

    def array(self):
        kind, count = self.number("I"), self.number("Q")
        self.values += count
        self.values_of(kind, count)
        if self.values > MOST_VALUES:
            raise Damaged(f"key '{self.key}': with it, arrays of {self.values:,} values: at most {MOST_VALUES:,}")

    def keys(self):
        if self.data[:4] != b"GGUF" or struct.unpack_from("<I", self.data, 4)[0] not in (2, 3):
            raise Damaged("not of version 2 or 3, little-endian")
        self.at = 16
        for _ in range(self.number("Q")):
            self.key = self.text()
            kind = self.number("I")
            self.array() if kind == ARRAY else self.values_of(kind, 1)


def check(path):
    """Raises Damaged, or OSError."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if len(data) < 24:
            raise Damaged("too short")
        Header(data).keys()
