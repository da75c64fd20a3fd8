#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Usage: tools/oracle/make_metrics.py > tests/data/metrics.json

BLEU-4 and CIDEr-D of made-up captions as pycocoevalcap gives them (pip install --no-deps pycocoevalcap numpy)."""

import contextlib
import io
import json
import random

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

WORDS = "a the dog man woman red ball runs sits on in grass beach of two people with t-shirt child's".split()


def sentence(rng, least, most):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(least, most)))


def near(rng, text):
    words = text.split()
    for _ in range(rng.randint(0, 3)):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words[rng.randint(0, 1):])


def case(name, captions):
    references = {i: c["references"] for i, c in enumerate(captions)}
    candidates = {i: [c["text"]] for i, c in enumerate(captions)}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, _ = Bleu(4).compute_score(references, candidates)
        cider, _ = Cider().compute_score(references, candidates)
    return {"name": name, "bleu4": float(bleu[3]), "cider_d": float(cider), "captions": captions}


def made_up(rng, n, n_references):
    out = []
    for _ in range(n):
        references = [sentence(rng, 4, 14) for _ in range(rng.randint(*n_references))]
        out.append({"text": near(rng, rng.choice(references)), "references": references})
    return out


def main():
    rng = random.Random(7)
    same = made_up(rng, 5, (2, 2))
    for c in same:
        c["text"] = c["references"][0]
    empty = made_up(rng, 6, (1, 3))
    empty[2]["text"] = ""
    repeats = made_up(rng, 4, (2, 3))
    repeats[0]["text"] = "dog dog dog dog dog dog"
    cases = [case("five references", made_up(rng, 40, (5, 5))), case("one to three", made_up(rng, 12, (1, 3))),
             case("the same words", same), case("an empty caption", empty), case("a word again and again", repeats),
             case("one caption", made_up(rng, 1, (3, 3)))]
    print(json.dumps(cases, indent=1))


main()
