"""Exact-answer accuracy by source and kind of question; CIDEr-D and BLEU-4 of captions."""

import collections
import math

HEADLINE = ("flickr8k", "coco")  # the headline is the mean of these two


def normalise(text):
    return text.strip().lower().rstrip(".").strip()


def kind_of(question):
    for start, kind in (("is there", "presence"), ("are there", "presence"), ("how many", "how many"),
                        ("what color", "colour"), ("what colour", "colour"), ("where", "where"),
                        ("what animal", "animal"), ("what vehicle", "vehicle"), ("what food", "food"),
                        ("what is", "what is")):
        if question.lower().startswith(start):
            return kind
    return "other"


def accuracy(rows, answers):
    """-> {source: (accuracy, {kind: (accuracy, n)})}"""
    hits = collections.defaultdict(lambda: collections.defaultdict(list))
    for row, a in zip(rows, answers):
        ok = normalise(a) in {normalise(x) for x in row["answers"]}
        hits[row["source"]][kind_of(row["question"])].append(ok)
    return {s: (sum(map(sum, k.values())) / sum(map(len, k.values())),
                {n: (sum(v) / len(v), len(v)) for n, v in sorted(k.items())}) for s, k in hits.items()}


def ngrams(words, n):
    return collections.Counter(tuple(words[i:i + n]) for i in range(len(words) - n + 1))


def words_of(text):
    return "".join(c if c.isalnum() or c in "'-" else " " for c in text.lower()).split()


def bleu4(candidates, references):
    match, total, length, closest = [0] * 4, [0] * 4, 0, 0
    for c, refs in zip(candidates, references):
        length += len(c)
        closest += min((abs(len(r) - len(c)), len(r)) for r in refs)[1]
        for n in range(1, 5):
            have = ngrams(c, n)
            best = collections.Counter()
            for r in refs:
                best |= ngrams(r, n)
            match[n - 1] += sum((have & best).values())
            total[n - 1] += sum(have.values())
    if not all(match):
        return 0.0
    brevity = min(0.0, 1 - closest / length)
    return math.exp(brevity + sum(math.log(m / t) for m, t in zip(match, total)) / 4)


def cider_d(candidates, references, sigma=6.0):
    """CIDEr-D (Vedantam et al. 2015), document frequencies from the references given."""
    df = [collections.Counter() for _ in range(4)]
    for refs in references:
        for n in range(4):
            df[n].update({g for r in refs for g in ngrams(r, n + 1)})
    log_n = math.log(len(references))

    def vector(words, n):
        v = {g: k * (log_n - math.log(max(1, df[n][g]))) for g, k in ngrams(words, n + 1).items()}
        return v, math.sqrt(sum(x * x for x in v.values()))

    score = 0.0
    for c, refs in zip(candidates, references):
        for n in range(4):
            vc, nc = vector(c, n)
            for r in refs:
                vr, nr = vector(r, n)
                if nc and nr:
                    dot = sum(min(x, vr.get(g, 0)) * vr.get(g, 0) for g, x in vc.items())
                    score += dot / (nc * nr) * math.exp(-(len(c) - len(r)) ** 2 / (2 * sigma ** 2)) / len(refs)
    return 10 * score / 4 / len(candidates)


def headline(table):
    have = [table[s][0] for s in HEADLINE if s in table]
    return sum(have) / len(have)


def report(table):
    """Lines of a table of accuracy()."""
    yield f"headline {100 * headline(table):.1f} %"
    for source, (share, kinds) in sorted(table.items()):
        yield f"  {source:10s} {100 * share:5.1f} %  " + ", ".join(
            f"{k} {100 * a:.1f} (n={n})" for k, (a, n) in kinds.items())
