"""A data folder of the layout that train/README.md describes, of random pictures."""

import gzip
import io
import json
import random
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
N = 60


def jpeg(rng):
    from PIL import Image
    out = io.BytesIO()
    Image.frombytes("RGB", (28, 28), rng.randbytes(28 * 28 * 3)).resize((224, 224)).save(out, "JPEG")
    return out.getvalue()


def write_lines(path, rows):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """N pictures of flickr8k: three in five train, one val, one test; the detector saw all of them, every second shows a dog alone."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "research").mkdir()
    (folder / "permissive").mkdir()
    rng = random.Random(0)
    keys = [f"flickr8k/{i:03d}.jpg" for i in range(N)]
    split = ["train", "train", "train", "val", "test"]
    captions, questions, detections = [], [], []
    for i, key in enumerate(keys):
        common = {"image": key, "source": "flickr8k", "split": split[i % 5]}
        dog = i % 2
        thing, colour = ("dog", "brown") if dog else ("man", "red")
        captions.append(common | {"kind": "human", "captions": [
            f"A {colour} {thing} runs on the grass.", f"The {thing} runs in a field", f"a {thing} outside .",
            f"A {thing} in a red shirt.", f"One {thing} near a road."]})
        if dog:
            captions.append(common | {"kind": "template-from-class", "captions": ["A photo of a dog."]})
        questions += [common | {"question": "Is there a dog in the picture?", "answers": ["yes" if dog else "no"]},
                      common | {"question": f"How many {thing}s are there?", "answers": ["2"], "agree": 9},
                      common | {"question": "What is written?", "answers": ["zebra"], "agree": 2}]
        scores = [0.02] * 80
        scores[16 if dog else 0] = 0.9
        scores[rng.randrange(20, 80)] = 0.2  # unsure: asked neither way
        detections.append({"k": key, "max": scores, "box": {} if dog else {"0": [[0.9, 0, 0, 1, 1]]}})
    write_lines(folder / "research" / "flickr8k.captions.jsonl", captions)
    write_lines(folder / "research" / "flickr8k.vqa.jsonl.gz", questions)
    write_lines(folder / "research" / "nanodet_flickr8k.jsonl.gz", detections)
    with gzip.open(folder / "research" / "captions_text.txt.gz", "wt") as f:
        f.writelines(f"A cat sits on mat {i}.\n" for i in range(100))
    with tarfile.open(folder / "research" / "flickr8k-00.tar", "w") as tar:
        for key in keys:
            data = jpeg(rng)
            member = tarfile.TarInfo(key)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    write_lines(folder / "eval-v1.jsonl", [{k: r[k] for k in ("image", "question", "answers", "source")}
                                           for r in questions if r["split"] == "test"])
    return folder
