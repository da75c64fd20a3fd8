"""Presence as POPE asks it (Li et al. 2023, arXiv:2305.10355), about COCO's test pictures.

A picture is asked about up to three of its objects and about as many absent ones: drawn at random, or the commonest
of all pictures, or for each object the one that is most often beside it. The data folder has no whole list of a
picture's labels: a template caption names at most four classes. So only pictures with fewer take part, and what
the detector or a person's caption sees is not called absent."""

import collections
import random
import re

import train.classes as classes
import train.corpus as corpus
import train.facts as facts
import train.wording as wording

KINDS = ["random", "popular", "adversarial"]
SOURCES = {"coco", "coco_ccby"}
LISTED = 4   # classes that a template caption names at most
ASKED = 3    # objects that a picture is asked about at most
DOUBT = 0.2  # of the detector's scores: from here on absence is not sure


def plural(name):
    return name + ("es" if name.endswith(("s", "ch", "sh")) else "s")


CLASS_OF = {form: n for n in classes.NAMES for form in (n, plural(n))} | {
    "people": "person", "mice": "mouse", "knives": "knife"}


def is_val2017(row):
    """Whether the detector did not see the picture: of COCO's val pictures only those of val2017 come with an address."""
    return "/val_" in row["image"] and "flickr_url" in row


def part(row):
    return "val2017" if is_val2017(row) else "train2017"


def listed(caption):
    """The classes that a template caption names: "A photo of two dogs and a pair of skis." """
    parts = re.split(r", | and ", re.sub(r"^A photo of ", "", caption).rstrip("."))
    names = [re.sub(r"^\S+ (pair of )?", "", part) for part in parts]
    unknown = [name for name in names if name not in CLASS_OF]
    if unknown:
        raise SystemExit(f"pope: not a COCO class: '{unknown[0]}' in the caption '{caption}'")
    return [CLASS_OF[name] for name in names]


class Labels:
    """present: {picture: classes}; whole: pictures whose template caption names all; parts: {picture: part}."""

    def __init__(self, root, split):
        self.present, self.whole, self.parts = collections.defaultdict(set), set(), {}
        for row in templates(corpus.captions(root, "all", split)):
            names = listed(row["captions"][0])
            self.present[row["image"]].update(names)
            self.parts[row["image"]] = part(row)
            if len(names) < LISTED:
                self.whole.add(row["image"])
        for row in templates(corpus.questions(root, "all", split)):
            match = facts.PRESENCE.fullmatch(row["question"])
            if match and row["answers"][0] == "yes" and match.group(1) in classes.INDEX:
                self.present[row["image"]].add(match.group(1))


def templates(rows):
    return (r for r in rows if r["source"] in SOURCES and r["kind"] == "template-from-labels")


def doubts(root, keys):
    """{picture: classes that it may show without being labelled so}"""
    out = collections.defaultdict(set)
    for key, (scores, _) in corpus.detections(root, "all", keys).items():
        out[key].update(name for name, score in zip(classes.NAMES, scores) if score >= DOUBT)
    for row in corpus.captions(root, "all", "test"):
        if row["kind"] == "human" and row["image"] in keys:
            text = f" {' '.join(facts.words(' '.join(row['captions'])))} "
            out[row["image"]].update(name for form, name in CLASS_OF.items() if f" {form.lower()} " in text)
    return out


class Statistics:
    """How often classes are seen, alone and together."""

    def __init__(self, pictures):
        self.alone, self.together = collections.Counter(), collections.Counter()
        for names in pictures:
            self.alone.update(names)
            self.together.update((a, b) for a in names for b in names if a != b)


def absent(kind, yes, allowed, seen, rng):
    """As many of `allowed` as yes has."""
    if kind == "random":
        return rng.sample(sorted(allowed), len(yes))
    if kind == "popular":
        return sorted(allowed, key=lambda name: (-seen.alone[name], name))[:len(yes)]
    out = []
    for present in yes:
        out.append(min(allowed - set(out), key=lambda name: (-seen.together[present, name], name)))
    return out


def row(key, part_of, kind, name, yes):
    be = "Are" if name in classes.PLURAL_ONLY else "Is"
    question = wording.PRESENCE[0].format(be=be, thing=classes.with_article(name))
    return {"image": key, "question": question, "answers": ["yes" if yes else "no"], "source": kind, "part": part_of}


def rows(root):
    labels, known = Labels(root, "test"), Labels(root, "train")
    seen, doubtful = Statistics(known.present.values()), doubts(root, labels.whole)
    out = []
    for kind in KINDS:
        for key in sorted(labels.whole):
            rng = random.Random(key)
            yes = rng.sample(sorted(labels.present[key]), min(ASKED, len(labels.present[key])))
            no = absent(kind, yes, set(classes.NAMES) - labels.present[key] - doubtful[key], seen, rng)
            out += [row(key, labels.parts[key], kind, name, name in yes) for pair in zip(yes, no) for name in pair]
    return out


def ratio(a, b):
    return a / b if b else 0.0


def scores(answered):
    """Of rows with answers: accuracy, and precision, recall and F1 of "yes"; what is neither yes nor no is wrong."""
    said = [r["answer"].strip(" .").lower() == "yes" for r in answered]
    true = [r["answers"][0] == "yes" for r in answered]
    hits = sum(a and b for a, b in zip(said, true))
    precision, recall = ratio(hits, sum(said)), ratio(hits, sum(true))
    return {"n": len(answered), "accuracy": ratio(sum(r["right"] for r in answered), len(answered)),
            "precision": precision, "recall": recall, "f1": ratio(2 * precision * recall, precision + recall),
            "yes": ratio(sum(said), len(said))}
