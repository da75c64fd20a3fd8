# SPDX-License-Identifier: MIT
"""`tinyvlm eval`: rows, images in folders and archives, numbers, and what it refuses."""

import json
import tarfile
import zipfile

import pytest

from conftest import PICTURE, ok, refused, run

QUESTION = "Is there a dog in the picture?"


def write(path, *rows):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def result(*args):
    return json.loads(ok("eval", "--json", *args).out)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with a/one.png and b.ppm."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a").mkdir()
    (folder / "a" / "one.png").write_bytes(PICTURE.read_bytes())
    (folder / "b.ppm").write_bytes(PICTURE.with_suffix(".ppm").read_bytes())
    return folder


def answer(picture, question, *options):
    return ok("ask", "-q", *options, picture, question).out.rstrip("\n")


def test_counts(tmp_path, photos):
    said = answer(PICTURE, QUESTION)
    other = {"yes": "no", "no": "yes"}[said]
    rows = write(
        tmp_path / "rows.jsonl",
        {"image": "a/one.png", "question": QUESTION, "answers": [said.upper() + "."], "source": "x"},
        {"image": "b.ppm", "question": QUESTION, "answers": [other], "source": "x"},
        "",
        {"image": "b.ppm", "question": "What is this?", "answers": ["nobody says this"], "source": "coco"},
        {"image": "b.ppm", "question": "What is this?", "answers": ["or this", answer(PICTURE, "What is this?", "-n", 12)]},
    )
    answers = tmp_path / "answers.jsonl"
    out = result(rows, "--images", photos, "--answers", answers)
    assert out["questions"]["x"] | {"low": 0, "high": 0} == {
        "accuracy": 0.5, "n": 2, "low": 0, "high": 0, "prior": 0.5, "majority": 0.5,
        "kinds": {"presence": {"accuracy": 0.5, "n": 2}},
    }
    assert out["questions"]["coco"]["accuracy"] == 0 and out["questions"]["all"]["accuracy"] == 1
    assert out["headline"] == 0 and out["yes_no"]["n"] == 2 and out["yes_no"]["accuracy"] == 0.5
    assert out["model"].endswith("tinyvlm-25m.gguf") and out["images"] == "right"
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["answer"] for line in lines][:2] == [said, said]
    assert [line["right"] for line in lines] == [True, False, False, True]
    assert (lines[0]["p_yes"] > 0.5) == (said == "yes") and "p_yes" not in lines[2]
    own = {"answer": 0, "p_yes": 0, "right": 0}
    assert lines[0] | own == json.loads(rows.read_text().splitlines()[0]) | own


def test_captions_and_table(tmp_path, photos):
    said = ok("describe", "-q", "-n", 40, PICTURE).out.rstrip("\n")
    rows = write(
        tmp_path / "rows.jsonl",
        {"image": "a/one.png", "captions": [said, "something else"]},
        {"image": "b.ppm", "captions": ["nothing of the kind at all"]},
    )
    out = result(rows, "--images", photos)["captions"]
    assert out["n"] == 2 and out["empty"] == 0 and 0 < out["bleu4"] < 1
    assert result(rows, "--images", photos, "--limit", 1)["captions"]["n"] == 1
    table = ok("eval", rows, "--images", photos, "-q").out
    assert table.startswith("captions: 2, CIDEr-D ") and f"BLEU-4 {out['bleu4']:.3f}" in table
    write(rows, {"image": "b.ppm", "question": "Where is it?", "answers": ["x"], "source": "y"})
    table = ok("eval", rows, "--images", photos, "-q").out.splitlines()
    assert table[0] == "headline 0.0 %" and table[3].split()[:3] == ["y", "1", "0.0"]
    assert table[4].split()[:2] == ["where", "1"]


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_archives(tmp_path, photos, kind):
    rows = write(
        tmp_path / "rows.jsonl",
        {"image": "a/one.png", "question": QUESTION, "answers": ["yes"]},
        {"image": "b.ppm", "question": QUESTION, "answers": ["yes"]},
    )
    archive = tmp_path / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as out:
            out.write(photos / "a" / "one.png", "a/one.png")
    else:
        with tarfile.open(archive, "w:gz" if kind == "tgz" else "w") as out:
            out.add(photos / "a" / "one.png", "./a/one.png")
    refused(3, "b.ppm: not in what --images names, nor are 0 other images of 2", "eval", rows, "--images", archive)
    both = result(rows, "--images", archive, "--images", photos)
    assert both == result(rows, "--images", photos)
    archive.write_bytes(archive.read_bytes()[:-1200] if kind == "tar" else b"x" * 600)
    assert run("eval", rows, "--images", archive).code == 3


def test_what_is_shown(tmp_path, photos):
    rows = write(
        tmp_path / "rows.jsonl",
        *({"image": i, "question": "What is this?", "answers": ["x"], "split": s} for i, s in
          [("a/one.png", "test"), ("b.ppm", "train"), ("c.png", "train")]),
    )
    (photos / "c.png").write_bytes(PICTURE.read_bytes())
    refused(3, "no row to ask (--where)", "eval", rows, "--images", photos, "--where", "split=val")
    assert result(rows, "--images", photos, "--where", "split=train")["questions"]["all"]["n"] == 2
    assert result(rows, "--grey")["images"] == "grey"
    assert result(rows, "--images", photos, "--shuffle")["images"] == "shuffled"


@pytest.mark.parametrize(
    "row,message",
    [
        ("{", "rows.jsonl, line 2"),
        ("[1]", "line 2: not a JSON object"),
        ({"question": "a"}, "line 2: key 'image' is missing"),
        ({"image": 3}, "line 2: "),
        ({"image": "b.ppm"}, "line 2: has neither 'question' with 'answers' nor 'captions'"),
        ({"image": "b.ppm", "question": "a", "answers": "x"}, "line 2: 'answers' is not a list of texts"),
        ({"image": "b.ppm", "question": "a", "answers": []}, "line 2: 'answers' is not a list of texts"),
        ({"image": "b.ppm", "captions": ["a", 1]}, "line 2: 'captions' has something else than texts"),
        ({"image": "../b.ppm", "captions": ["a"]}, "line 2: 'image' is not a name inside of a folder: ../b.ppm"),
        ({"image": "/etc/passwd", "captions": ["a"]}, "line 2: 'image' is not a name inside"),
        ({"image": "a/../../b", "captions": ["a"]}, "line 2: 'image' is not a name inside"),
        ({"image": "", "captions": ["a"]}, "line 2: 'image' is not a name inside"),
    ],
)
def test_hostile_rows(tmp_path, photos, row, message):
    good = {"image": "b.ppm", "question": QUESTION, "answers": ["yes"]}
    refused(3, message, "eval", write(tmp_path / "rows.jsonl", good, row), "--images", photos)


def test_refusals(tmp_path, photos, model):
    rows = write(tmp_path / "rows.jsonl", {"image": "b.ppm", "question": QUESTION, "answers": ["yes"]})
    refused(3, "empty rows.jsonl: no row to ask", "eval", write(tmp_path / "empty rows.jsonl"), "--images", photos)
    refused(3, "nowhere: not found", "eval", rows, "--images", tmp_path / "nowhere")
    refused(3, "none.jsonl", "eval", tmp_path / "none.jsonl", "--images", photos)
    refused(2, "rows.jsonl", "eval", rows, "--images", photos, "--answers", rows)
    (photos / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bad = write(tmp_path / "bad.jsonl", {"image": "bad.png", "captions": ["x"]})
    refused(3, "bad.png: ", "eval", bad, "--images", photos)
    for options, message in (
        ([rows], "--images DIR or ARCHIVE is missing"),
        ([rows, rows, "--images", photos], "name one file of rows"),
        ([rows, "--images", photos, "--where", "split"], "'--where'"),
        ([rows, "--images", photos, "--limit", "0"], "'--limit'"),
        ([rows, "--images", photos, "--prompt", " "], "'--prompt'"),
        ([rows, "--images", photos, "--shuffle", "--grey"], "not for one run"),
    ):
        assert message in run("eval", *options).err and run("eval", *options).code == 2
    assert result(rows, "--images", photos, "-m", model)["questions"]["all"]["n"] == 1
