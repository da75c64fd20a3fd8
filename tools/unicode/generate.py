#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes src/text/unicode_tables.h, the frozen Unicode data of the tokenizer.

    pip install unicodedataplus==16.0.0.post1 unicodedata2==17.0.0
    python tools/unicode/generate.py > src/text/unicode_tables.h

The reference is Hugging Face `tokenizers` 0.23.3, whose parts follow different Unicode versions,
found by asking the library about every code point (tests/text/test_hf_equal.py does so again):
    \\p{L} \\p{N} \\s of the regexes     Unicode 16 (Oniguruma)
    \\w beside added tokens             Unicode 16 (Rust's regex)
    Digits                              Unicode 17 (Rust's char::is_numeric)
    NFC                                 Unicode 9  (unicode-normalization-alignments)
Decompositions and combining classes of a character never change once it is assigned (Unicode's
stability policy), so those of version 9 are today's, restricted to characters of that age.
"""
import sys

import unicodedata2 as digits
import unicodedataplus as ucd

NFC_AGE = 9.0
# PropList.txt, White_Space: unchanged since Unicode 6.3.
WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028,
               0x2029, 0x202F, 0x205F, 0x3000}
HANGUL = range(0xAC00, 0xAC00 + 11172)  # composed by arithmetic, not by table
OTHER, LETTER, NUMBER, SPACE, NUMERIC, OTHER_WORD, NUMBER_NO_WORD = range(7)
# Alphabetic symbols (PropList.txt, Other_Alphabetic) and Join_Control.
WORD_SYMBOLS = {*range(0x24B6, 0x24EA), *range(0x1F130, 0x1F14A), *range(0x1F150, 0x1F16A),
                *range(0x1F170, 0x1F18A), 0x200C, 0x200D}
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def char_class(c):
    if c in WHITE_SPACE:
        return SPACE
    category = ucd.category(chr(c))
    if category[0] == "L":
        return LETTER
    if category[0] == "N":
        return NUMBER_NO_WORD if category == "No" else NUMBER
    if category[0] == "M" or category == "Pc" or c in WORD_SYMBOLS:
        return OTHER_WORD
    return NUMERIC if digits.category(chr(c))[0] == "N" else OTHER


def old(c):
    age = ucd.age(chr(c))
    return age != "Unassigned" and float(age) <= NFC_AGE


def combining(c):
    return ucd.combining(chr(c)) if old(c) else 0


def runs(value):
    """[(first code point, value)] of maximal runs; surrogates take their predecessor's value."""
    out, last = [], None
    for c in CODE_POINTS:
        v = value(c)
        if v != last:
            out.append((c, v))
            last = v
    return out


def pairs():
    """{composed: (first, second)}; second is 0 for singletons."""
    out = {}
    for c in CODE_POINTS:
        text = ucd.decomposition(chr(c))
        if text and not text.startswith("<") and old(c):
            parts = [int(x, 16) for x in text.split()] + [0]
            out[c] = (parts[0], parts[1])
            assert all(old(x) for x in parts if x)
    for first, second in out.values():
        assert second not in out, "only the first half decomposes further"
    return out


def array(ctype, name, values):
    print(f"static const {ctype} {name}[] = {{")
    line = "   "
    for value in values:
        if len(line) + len(value) + 2 > 100:
            print(line)
            line = "   "
        line += f" {value},"
    print(line + "\n};\n")


def main():
    assert ucd.unidata_version == "16.0.0" and digits.unidata_version == "17.0.0"
    table = pairs()
    keys = sorted(table)
    compose = [i for i, c in enumerate(keys)
               if table[c][1] and ucd.normalize("NFC", chr(table[c][0]) + chr(table[c][1])) == chr(c)]
    compose.sort(key=lambda i: table[keys[i]])
    seconds = {table[keys[i]][1] for i in compose} | {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}

    def unsafe(c):  # may change, or change what stands before it
        if c in HANGUL:
            return False
        first = c
        while first in table:
            first = table[first][0]
        recomposed = c not in table or ucd.normalize("NFC", chr(c)) == chr(c)
        return combining(c) != 0 or not recomposed or first in seconds or combining(first) != 0

    print("/* SPDX-License-Identifier: MIT\n"
          " * Written by tools/unicode/generate.py (which says from what); do not edit. */\n"
          "#ifndef TVLM_UNICODE_TABLES_H\n#define TVLM_UNICODE_TABLES_H\n\n#include <stdint.h>\n\n"
          "typedef struct canonical_pair {\n"
          "    uint32_t composed, first, second; /* second 0 for singletons */\n"
          "} canonical_pair;\n\n"
          "// clang-format off\n"
          "/* First code point of a run << 3 | class: 0 other, 1 letter, 2 number, 3 white space,\n"
          " * 4 numeric in Unicode 17 only, 5 other but \\w, 6 number but not \\w. */")
    array("uint32_t", "class_runs", [f"0x{c << 3 | v:x}" for c, v in runs(char_class)])
    print("/* First code point of a run << 8 | canonical combining class. */")
    array("uint32_t", "combining_runs", [f"0x{c << 8 | v:x}" for c, v in runs(combining)])
    print("/* First code point of a run << 1 | whether NFC may change it or what precedes it. */")
    array("uint32_t", "unsafe_runs", [f"0x{c << 1 | v:x}" for c, v in runs(unsafe)])
    print("/* Canonical decompositions, one step, sorted by composed. Hangul is arithmetic. */")
    array("canonical_pair", "canonical_pairs",
          [f"{{0x{c:x}, 0x{table[c][0]:x}, 0x{table[c][1]:x}}}" for c in keys])
    print("/* Indices of canonical_pairs that compose again, sorted by (first, second). */")
    array("uint16_t", "composition_order", [str(i) for i in compose])
    print("// clang-format on\n\n#endif")
    print(f"{len(keys)} pairs, {len(compose)} compositions", file=sys.stderr)


if __name__ == "__main__":
    main()
