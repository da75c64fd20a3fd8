"""Pictures and texts: `root` is the data folder (its README gives the layout).

--data permissive takes the permissive group only; --data all takes research too."""

import glob
import gzip
import json
import os
import tarfile

GROUPS = {"permissive": ["permissive"], "all": ["permissive", "research"]}
CAPTION_PROMPT = "Describe the image."
OBJECTS_PROMPT = "What objects are in the image?"


def pictures(root, data):
    """Yields (key, jpeg bytes) of every picture of the groups, in a fixed order."""
    for group in GROUPS[data]:
        for path in sorted(glob.glob(os.path.join(root, group, "*.tar"))):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(".jpg"):
                        yield member.name, tar.extractfile(member).read()


def rows(root, data, suffix, split):
    for group in GROUPS[data]:
        for path in sorted(glob.glob(os.path.join(root, group, "*" + suffix))):
            opener = gzip.open if path.endswith(".gz") else open
            with opener(path, "rt", encoding="utf-8") as f:
                for line in f:
                    row = json.loads(line)
                    if row["split"] == split:
                        yield row


def captions(root, data, split):
    return list(rows(root, data, ".captions.jsonl", split))


def questions(root, data, split):
    return list(rows(root, data, ".vqa.jsonl.gz", split))


def answer_of(row):
    """The training answer: the commonest (the first)."""
    return row["answers"][0]


def balanced(vqa, rng, repeat=4, cap=2000):
    """Yes/no questions balanced per wording: the rarer side is repeated up to `repeat` times, the
    commoner then cut to the same number, at most `cap` a side; other questions are kept as they are."""
    by_question, out = {}, []
    for row in vqa:
        answer = answer_of(row)
        if answer in ("yes", "no"):
            by_question.setdefault((row["source"], row["question"]), {"yes": [], "no": []})[answer].append(row)
        else:
            out.append(row)
    for sides in by_question.values():
        rare, common = sorted(sides.values(), key=len)
        n = min(len(common), repeat * len(rare), cap)
        if not n:
            continue
        out += [rare[i % len(rare)] for i in range(n)]
        out += rng.sample(common, n)
    return out


def samples(root, data, rng, caption_repeat=1):
    """One epoch of (picture key, question, answer) triples.

    Human captions under CAPTION_PROMPT; label and class templates under OBJECTS_PROMPT, once per
    picture, so that they teach objects without teaching their style."""
    out = []
    for row in captions(root, data, "train"):
        if row["kind"] == "human":
            out += [(row["image"], CAPTION_PROMPT, c) for c in row["captions"]] * caption_repeat
        else:
            out.append((row["image"], OBJECTS_PROMPT, row["captions"][0]))
    vqa = questions(root, data, "train")
    daquar = [r for r in vqa if r["source"] == "daquar"]
    rest = [r for r in vqa if r["source"] != "daquar"]
    out += [(r["image"], r["question"], answer_of(r))
            for r in balanced(rest, rng) + rng.sample(daquar, len(daquar) // 2)]
    rng.shuffle(out)
    return out
