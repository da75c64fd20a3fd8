"""Accuracy on a fixed question file and captions of held-out pictures, with the baselines beside.

  python evaluate.py --run RUN --features DIR --root DATA [--captions 200] [--limit N]

Prints, per source and kind of question: exact-answer accuracy (greedy, lower case, final full stop
dropped, any listed answer counts), the same with the pictures shuffled and with the visual tokens
zeroed; then CIDEr-D and BLEU-4 of captions against the human ones, and samples."""

import argparse
import collections
import json
import math
import os
import random

import torch

import data
import tokenizer as tok
from export import load_run
from features import Features

HEADLINE = ("flickr8k", "coco")


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


@torch.no_grad()
def answer(net, tokenizer, features, rows, mode="pictures", max_tokens=12, batch=256):
    """Greedy answers to rows of (key, question). mode: pictures, shuffled or zeroed."""
    eos = tokenizer.token_to_id(tok.END)
    keys = [r[0] for r in rows]
    if mode == "shuffled":
        keys = keys[:]
        random.Random(0).shuffle(keys)
    out = []
    for i in range(0, len(rows), batch):
        hi, lo = features.get(keys[i:i + batch])
        visual = net.pool(hi, lo)
        if mode == "zeroed":
            visual = torch.zeros_like(visual)
        prompts = [tok.prompt_ids(tokenizer, q) for _, q in rows[i:i + batch]]
        out += [tokenizer.decode(g) for g in net.generate(prompts, visual, eos, max_tokens)]
    return out


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


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--run", required=True)
    p.add_argument("--features", required=True)
    p.add_argument("--root", required=True)
    p.add_argument("--questions", default="eval-v1.jsonl", help="file under --root")
    p.add_argument("--captions", type=int, default=600, help="held-out human-captioned pictures")
    p.add_argument("--limit", type=int, help="questions to ask")
    args = p.parse_args()
    net, tokenizer, _, _, _ = load_run(args.run)
    features = Features(args.features)
    with open(os.path.join(args.root, args.questions), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    rows = [r for r in rows if r["image"] in features.index]
    if args.limit:
        rows = random.Random(0).sample(rows, args.limit)
    pairs = [(r["image"], r["question"]) for r in rows]
    for mode in ("pictures", "shuffled", "zeroed"):
        table = accuracy(rows, answer(net, tokenizer, features, pairs, mode))
        head = [table[s][0] for s in HEADLINE if s in table]
        print(f"{mode:9s} headline {100 * sum(head) / len(head):.1f}%", flush=True)
        for source, (acc, kinds) in sorted(table.items()):
            print(f"  {source:10s} {100 * acc:5.1f}%  " + ", ".join(
                f"{k} {100 * a:.1f} (n={n})" for k, (a, n) in kinds.items()), flush=True)

    human = [r for r in data.captions(args.root, "all", "test")
             if r["source"] == "flickr8k" and r["image"] in features.index][:args.captions]
    texts = answer(net, tokenizer, features, [(r["image"], data.CAPTION_PROMPT) for r in human], max_tokens=40)
    candidates = [words_of(t) for t in texts]
    references = [[words_of(c) for c in r["captions"]] for r in human]
    print(f"captions on {len(human)} Flickr8k test pictures: CIDEr-D {cider_d(candidates, references):.3f}, "
          f"BLEU-4 {bleu4(candidates, references):.3f}")
    for r, t in list(zip(human, texts))[:20]:
        print(f"  {r['image']}: {t.strip()}")


if __name__ == "__main__":
    main()
