"""What a model file answers in the C engine, as a user gets it.

Questions: exact answers (greedy, lower case, final full stop dropped, any listed answer counts), with the
right pictures and with the pictures shuffled. Captions: CIDEr-D and BLEU-4 against people's."""

import io
import json
import os
import random
import subprocess
import tempfile

import train.corpus as corpus
import train.metrics as metrics

CAPTIONED = "flickr8k"


def unpack(root, keys, folder):
    """The pictures of `keys` as files of a folder -> {key: path}."""
    out = {}
    for key, jpeg in corpus.pictures(root, "all"):
        if key in keys:
            out[key] = os.path.join(folder, key.replace("/", "_"))
            with open(out[key], "wb") as f:
                f.write(jpeg)
    return out


def ask(args, asked, max_tokens):
    """asked: [(picture path, question)] -> texts, in order, from one chat."""
    order = sorted(range(len(asked)), key=lambda i: asked[i][0])
    lines, last = io.StringIO(), None
    for i in order:
        path, question = asked[i]
        lines.write(f"/image {path}\n" if path != last else "/reset\n")
        lines.write(question + "\n")
        last = path
    done = subprocess.run([args.bin, "chat", "--json", "-m", args.model, "--threads", str(args.threads),
                           "--max-tokens", str(max_tokens), "--precision", args.precision], input=lines.getvalue(),
                          capture_output=True, text=True, check=True)
    texts = [json.loads(line)["text"] for line in done.stdout.splitlines()]
    if len(texts) != len(asked):
        raise SystemExit(f"{len(asked)} questions, {len(texts)} answers:\n{done.stderr[-2000:]}")
    out = [""] * len(asked)
    for i, text in zip(order, texts):
        out[i] = text
    return out


def run(args):
    rows = list(corpus.json_lines(os.path.join(args.root, args.questions)))
    if args.limit:
        rows = random.Random(0).sample(rows, min(args.limit, len(rows)))
    captioned = [r for r in corpus.captions(args.root, "all", "test")
                 if r["source"] == CAPTIONED and r["kind"] == "human"][:args.captions]
    with tempfile.TemporaryDirectory() as folder:
        paths = unpack(args.root, {r["image"] for r in rows + captioned}, folder)
        rows = [r for r in rows if r["image"] in paths]
        pictures = [r["image"] for r in rows]
        shuffled = random.Random(0).sample(pictures, len(pictures))
        for name, keys in (("right pictures", pictures), ("shuffled pictures", shuffled))[:1 + args.shuffled]:
            asked = [(paths[k], r["question"]) for k, r in zip(keys, rows)]
            table = metrics.accuracy(rows, ask(args, asked, max_tokens=12))
            print(f"{name}, {len(rows)} questions:", *metrics.report(table), sep="\n", flush=True)
        if captioned:
            asked = [(paths[r["image"]], args.prompt) for r in captioned]
            captions(captioned, ask(args, asked, max_tokens=40))


def captions(rows, texts):
    candidates = [metrics.words_of(t) for t in texts]
    references = [[metrics.words_of(c) for c in r["captions"]] for r in rows]
    print(f"captions of {len(rows)} {CAPTIONED} pictures: CIDEr-D {metrics.cider_d(candidates, references):.3f}, "
          f"BLEU-4 {metrics.bleu4(candidates, references):.3f}, {sum(not c for c in candidates)} empty, "
          f"{len({w for c in candidates for w in c})} distinct words")
    for row, text in list(zip(rows, texts))[:10]:
        print(f"  {row['image']}: {text}")
