# SPDX-License-Identifier: MIT
"""Seeded texts that exercise pre-tokenizers, normalisation and special tokens."""
import random

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F),
           (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF),
           (0xA00, 0xA7F), (0xB80, 0xBFF), (0xC00, 0xC7F), (0xD00, 0xD7F), (0xE00, 0xE7F),
           (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
           (0x1780, 0x17FF), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x2BFF),
           (0x3000, 0x30FF), (0x3130, 0x318F), (0x4E00, 0x9FFF), (0xA960, 0xA97F), (0xAC00, 0xD7FB),
           (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFFEF), (0x10000, 0x1056F),
           (0x11000, 0x1147F), (0x11900, 0x11FFF), (0x16A00, 0x16FFF), (0x1D100, 0x1D7FF),
           (0x1E000, 0x1E8DF), (0x1F000, 0x1FAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1D),
           (0xE0000, 0xE01EF), (0x10FF00, 0x10FFFF)]
WORDS = ("the a of and to in is you that it he was for on are as with his they at be this have from "
         "photo image dog cat street man woman Describe WHAT Where don't WON'T I'll it'S we've they're "
         "'S 'LL 'Re 'vE 'd 'm 't 'x naïve café Straße Ελληνικά русский עברית العربية हिन्दी ไทย 日本語 "
         "中文 한국어 Tiếng Việt ſ 'ſ ŉ ﬁ ǅ İ ı").split()
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\r", "\v", "\f", "\x1c", "\x85", "\xa0",
          "\u1680", "\u2003", "\u2009", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000",
          "\ufeff", " \n", "\n ", " \r\n \t", "    \n    "]
DIGITS = "0123456789٠١٢٣०१२３৪௫๖⅓½²³①ⅧⅧ〇一㊿𝟘𝟡𑁦🄋𞥐"
MARKS = [chr(c) for c in (*range(0x300, 0x36F), *range(0x591, 0x5BE), 0x5BF, *range(0x64B, 0x65F),
                          0x670, 0x93C, 0x94D, 0x9BE, 0x9D7, 0xBBE, 0xCD5, 0xDCF, 0xE38, 0xE48,
                          0xF71, 0xF72, 0xF74, 0xF80, 0x102E, 0x3099, 0x309A, 0x1161, 0x11A8,
                          0x11BA, 0x1DC0, 0x20D0, 0x302A, 0xFE20, 0x110BA, 0x11127, 0x11930,
                          0x1D165, 0x1D16D, 0x1E8D0, 0xD3B, 0x8D3, 0x16FF0)]
BASES = list("aAeEoOuUiIcCnNsSyYzZqQ") + [chr(c) for c in (
    0xC5, 0x212B, 0x2126, 0x1EA5, 0x1E9B, 0x1F85, 0x958, 0x9A1, 0x9C7, 0xBC6, 0xDD9, 0xF40, 0xF77,
    0x1025, 0x30AB, 0x304B, 0x1100, 0x1112, 0xAC00, 0xAC01, 0xD55C, 0xFB1D, 0xFB2C, 0xF900, 0x2F9F4,
    0x11099, 0x11131, 0x11935, 0x1D15E, 0x1D157, 0x1D1BA, 0x344, 0x340, 0x387, 0x37E, 0x2000, 0x2329)]
EMOJI = ["👩‍👩‍👧", "🇫🇷", "🇺🇸🇯🇵", "👍🏽", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "😀", "🤷🏿‍♀️", "☃", "✈️"]
CODE = ["x = foo(bar)[3]; // comment", "\tif (a != b) {\n\t\treturn -1;\n\t}", "def f(x):\n    return x**2",
        "#include <stdio.h>\n", "<div class=\"a\">&nbsp;</div>", "SELECT * FROM t WHERE a='b';",
        "https://a.b/c?d=e&f=%20g", "[1,2,  3]\r\n", "{\"k\": null}", "$ ls -la | grep '^d'"]
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|", "<|im_end|>>", "<|im_",
            "<<|im_end|>", "<|im_start|><|im_end|>", "<repo_name>", "<file_sep>", "<image>", "<|",
            "|>", "<|im_END|>", " <|im_end|> ", "<|endoftext|", "<jupyter_start>"]


def _piece(rng):
    kind = rng.randrange(12)
    if kind == 0:
        low, high = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))
    if kind <= 3:
        return rng.choice(WORDS) + rng.choice(["", " ", " ", " ", ", ", ".", "!?", "...", "\n"])
    if kind == 4:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 4)))
    if kind == 5:
        return "".join(rng.choice(DIGITS) for _ in range(rng.randint(1, 6)))
    if kind == 6:
        return rng.choice(BASES) + "".join(rng.choice(MARKS) for _ in range(rng.randint(0, 5)))
    if kind == 7:
        return rng.choice(EMOJI)
    if kind == 8:
        return rng.choice(CODE)
    if kind == 9:
        return rng.choice(SPECIALS)
    if kind == 10:
        return rng.choice(["=", "-", "ab", "é", "!", "\n", " ", "あ", "0", "\u0301"]) * rng.randint(1, 40)
    c = rng.randrange(0x110000)
    return "" if 0xD800 <= c < 0xE000 else chr(c)


def make_lines(n, seed=20251122):
    """n texts; a fifth of them are ordinary sentences, the rest mixtures."""
    rng = random.Random(seed)
    lines = []
    for i in range(n):
        if i % 5 == 0:
            lines.append(" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 30))))
        else:
            lines.append("".join(_piece(rng) for _ in range(rng.randint(1, 14))))
    return lines
