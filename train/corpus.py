"""Pictures and texts on disk: `root` is the data folder (README.md gives its layout).

--data permissive reads the permissive group only; --data all reads research too."""

import glob
import gzip
import json
import os
import tarfile

GROUPS = {"permissive": ["permissive"], "all": ["permissive", "research"]}


def files(root, data, pattern):
    return [path for group in GROUPS[data] for path in sorted(glob.glob(os.path.join(root, group, pattern)))]


def json_lines(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def pictures(root, data):
    """Yields (key, jpeg bytes) of every picture, in a fixed order."""
    for path in files(root, data, "*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".jpg"):
                    yield member.name, tar.extractfile(member).read()


def captions(root, data, split):
    return [r for p in files(root, data, "*.captions.jsonl") for r in json_lines(p) if r["split"] == split]


def questions(root, data, split):
    return [r for p in files(root, data, "*.vqa.jsonl.gz") for r in json_lines(p) if r["split"] == split]


def splits(root, data):
    """{picture key: split}"""
    return {r["image"]: r["split"] for pattern in ("*.captions.jsonl", "*.vqa.jsonl.gz")
            for p in files(root, data, pattern) for r in json_lines(p)}


def imagenet_labels(root, data):
    """{key: class} of the pictures that show one of ImageNet's classes each, in the order of the classes; all thousand or none."""
    out = {r["image"]: r["label"] for split in ("train", "val", "test") for r in captions(root, data, split)
           if r["source"] == "imagenet1k_sample"}
    return {key: out[key] for key in sorted(out)} if len(out) == 1000 else {}


def sentences(root, data):
    """Caption sentences without pictures, for the text stage."""
    out = []
    for path in files(root, data, "captions_text.txt.gz"):
        with gzip.open(path, "rt", encoding="utf-8") as f:
            out += [line.strip() for line in f if line.strip()]
    return out


def detections(root, data, keys):
    """{picture key: (scores [80], {class: boxes})} of the detector, for the keys given."""
    return {r["k"]: (r["max"], {int(c): b for c, b in r["box"].items()})
            for p in files(root, data, "nanodet_*.jsonl.gz") for r in json_lines(p) if r["k"] in keys}
