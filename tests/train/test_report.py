"""What measures models and shows it: rows that ask for presence, the photos and their prompts, records of the engine's numbers, and
that documents say what was measured. Needs no PyTorch."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import jpeg, write_lines
from train import classes
from train.report import cards, engine, measure, photos, pope, render, window

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = REPOSITORY / "models" / "tinyvlm-25m.gguf"
BINARY = Path(os.environ.get("TVLM_BIN", REPOSITORY / "build" / "tinyvlm")).resolve()


# ---- a data folder of two groups and the demo ----

TRAIN = ["A person."] * 9 + ["A photo of a dog and a frisbee."] * 5 + ["Two cats and a couch."] * 3 + ["A pair of skis and many people."] * 2
TEST = {"coco/val_01.jpg": "A dog.", "coco/val_02.jpg": "Three cats, some broccoli and a knife.",
        "coco/val_03.jpg": "A dog, a cat, a bed and two mice.", "coco/val_04.jpg": "Two buses."}
PERMISSIVE = {"coco_ccby/val_05.jpg": ("image CC BY 2.0; annotations CC BY 4.0", "test"),
              "coco_ccby/val_06.jpg": ("image CC BY-SA 2.0; annotations CC BY 4.0", "test"),
              "coco_ccby/train_07.jpg": ("image CC BY 2.0; annotations CC BY 4.0", "train")}


def pack(path, keys, rng):
    with tarfile.open(path, "w") as tar:
        for key in keys:
            data = jpeg(rng)
            member = tarfile.TarInfo(key)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def coco_rows():
    for i, caption in enumerate(TRAIN):
        yield {"image": f"coco/train_{i:02}.jpg", "captions": [caption], "split": "train"}
    for key, caption in TEST.items():
        yield {"image": key, "captions": [caption], "split": "test"}


@pytest.fixture(scope="module")
def data(root, tmp_path_factory):
    import random
    folder, rng = tmp_path_factory.mktemp("report") / "data", random.Random(1)
    shutil.copytree(root, folder)
    template, human = {"kind": "template-from-labels"}, {"kind": "human"}
    write_lines(folder / "research" / "coco.captions.jsonl", (r | template | {"source": "coco", "licence": "x"} for r in coco_rows()))
    write_lines(folder / "research" / "coco.vqa.jsonl.gz", [
        {"image": "coco/val_04.jpg", "question": "Is there a car in the picture?", "answers": ["yes"], "split": "test", "source": "coco"} | template,
        {"image": "coco/val_04.jpg", "question": "Is there a dog in the picture?", "answers": ["no"], "split": "test", "source": "coco"} | template])
    write_lines(folder / "research" / "nanodet_coco.jsonl.gz", [
        {"k": "coco/val_02.jpg", "max": [0.3] + [0.1] * 79, "box": {}}])  # a person, perhaps
    rows = []
    for key, (licence, split) in PERMISSIVE.items():
        common = {"image": key, "source": "coco_ccby", "licence": licence, "split": split, "flickr_url": "http://f/7434/9138_b8.jpg"}
        rows += [common | human | {"captions": ["A bear behind people.", "A bear"]}, common | template | {"captions": ["A bear."]}]
    write_lines(folder / "permissive" / "coco_ccby.captions.jsonl", rows)
    (folder / "demo").mkdir()
    write_lines(folder / "demo" / "demo.captions.jsonl", [
        {"image": "demo/coffee.jpg", "captions": ["A cup of coffee."], "licence": "CC0 (someone)", "split": "test"} | human])
    pack(folder / "demo" / "demo-00.tar", ["demo/coffee.jpg"], rng)
    pack(folder / "research" / "coco-00.tar", TEST, rng)
    pack(folder / "permissive" / "coco_ccby-00.tar", PERMISSIVE, rng)
    ask = [{"image": key, "question": "Is there a dog in the picture?", "answers": [answer], "source": key.split("/")[0]}
           for key in ["coco/val_01.jpg", "coco/val_02.jpg", "coco_ccby/val_05.jpg"] for answer in ("yes", "no")]
    with open(folder / "eval-v1.jsonl", "a", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in ask)
    return str(folder)


# ---- presence ----


@pytest.mark.parametrize("caption, names", [
    ("A photo of three bowls, some broccoli and four oranges.", ["bowl", "broccoli", "orange"]),
    ("A pair of skis and several people.", ["skis", "person"]), ("Many wine glasses.", ["wine glass"]),
    ("Two mice, several knives, buses' end.", None), ("A TV and two sheep.", ["TV", "sheep"])])
def test_template_captions_are_read(caption, names):
    if names:
        assert pope.listed(caption) == names
    else:
        with pytest.raises(SystemExit, match="not a COCO class: 'end'"):
            pope.listed(caption)


def asked(rows, kind, key):
    return {(r["question"].split(" in the")[0].split("there ")[1], r["answers"][0]) for r in rows
            if (r["source"], r["image"]) == (kind, key)}


def test_presence_rows(data):
    rows = pope.rows(data)
    assert rows == pope.rows(data)
    assert [sum(r["answers"] == [a] for r in rows) for a in ("yes", "no")] == [len(rows) / 2] * 2
    assert "coco/val_03.jpg" not in {r["image"] for r in rows}, "four are listed: there may be more"
    assert {r["image"].split("/")[1][:6] for r in rows} == {"val_01", "val_02", "val_04", "val_05", "val_06"}
    assert {r["image"]: r["part"] for r in rows}["coco/val_01.jpg"] == "train2017"
    assert {r["image"]: r["part"] for r in rows}["coco_ccby/val_05.jpg"] == "val2017"
    assert asked(rows, "popular", "coco/val_01.jpg") == {("a dog", "yes"), ("a person", "no")}
    assert asked(rows, "adversarial", "coco/val_01.jpg") == {("a dog", "yes"), ("a frisbee", "no")}
    assert ("some broccoli", "yes") in asked(rows, "random", "coco/val_02.jpg")
    assert ("a couch", "no") in asked(rows, "adversarial", "coco/val_02.jpg")
    assert ("a person", "no") not in asked(rows, "popular", "coco/val_02.jpg"), "the detector may see one"
    assert {q for q, a in asked(rows, "popular", "coco/val_04.jpg") if a == "yes"} == {"a bus", "a car"}
    assert ("a person", "no") not in asked(rows, "popular", "coco_ccby/val_05.jpg"), "its caption speaks of some"


def test_absent_things_by_kind():
    import random
    seen = pope.Statistics([{"person"}, {"person", "cup"}, {"cup", "bowl"}, {"cup", "fork"}, {"fork", "bowl"}, {"bowl", "fork"}])
    allowed = {"cup", "fork", "person", "toaster"}
    assert pope.absent("popular", ["bowl", "x"], allowed, seen, None) == ["cup", "fork"]
    assert pope.absent("adversarial", ["bowl", "bowl"], allowed, seen, None) == ["fork", "cup"]
    drawn = [tuple(pope.absent("random", ["bowl"], allowed, seen, random.Random(i))) for i in range(50)]
    assert set(drawn) == {(name,) for name in allowed}


def test_presence_scores():
    def row(said, true):
        return {"answer": said, "answers": [true], "right": said.strip(".").lower() == true}
    rows = [row("Yes.", "yes"), row("yes", "yes"), row("no", "yes"), row("yes", "no"), row("yes", "no"), row("no", "no"),
            row("no", "no"), row("A dog.", "no")]
    assert pope.scores(rows) == pytest.approx({"n": 8, "accuracy": 0.5, "precision": 0.5, "recall": 2 / 3, "f1": 4 / 7, "yes": 0.5})
    assert pope.scores([]) == {"n": 0, "accuracy": 0, "precision": 0, "recall": 0, "f1": 0, "yes": 0}


# ---- first prompts ----


@pytest.mark.parametrize("form, good, bad", [
    ("sentence", ["A dandelion.", "Two dogs run.", "I can see a dog."], ["", " .", "dandelion", "Yes.", "no, two dogs", "two", "I can't tell."]),
    ("thing", ["dandelion", "A dog and a cat.", "Two dogs"], ["", "yes", "Two.", "Outdoors.", "red", "I can't read text."]),
    ("yes or no", ["yes", "No."], ["", "outdoors", "Yes, a dog", "two"]),
    ("number", ["two", "2", "No people.", "Three people."], ["", "yes", "A man.", "twofold"]),
    ("place", ["Outdoors.", "inside"], ["", "yes", "dandelion", "no"]),
    ("refusal", ["I can't read text.", "I cannot tell."], ["", "yes", "A man."])])
def test_what_fits_a_prompt(form, good, bad):
    assert [a for a in good if not photos.fits(form, a)] == []
    assert [a for a in bad if photos.fits(form, a)] == []


def test_failures_are_listed():
    answers = {"a.jpg": {"Describe": "", "indoors or outdoors?": "outdoors"}, "b.jpg": {"Describe": "A dog runs.", "indoors or outdoors?": "yes"}}
    assert photos.failures(answers) == [("a.jpg", "Describe", ""), ("b.jpg", "indoors or outdoors?", "yes")]
    assert len(photos.PROMPTS) == 10 and set(photos.PROMPTS.values()) <= set(photos.FORMS) and set(photos.SHOWN) <= set(photos.PROMPTS)


def test_thumbnails(data, tmp_path, monkeypatch):
    photos.write(data, tmp_path)
    listing = photos.read(tmp_path)
    assert [p["image"] for p in listing] == ["demo/coffee.jpg", "coco_ccby/val_05.jpg"], "no share-alike, nothing of training"
    assert listing[1]["credit"].startswith("[Flickr photo 9138](http://f/7434/9138_b8.jpg), CC BY 2.0")
    for photo in listing:
        size = (tmp_path / photos.file_name(photo["image"])).stat().st_size
        assert 500 < size <= photos.MOST_BYTES
    monkeypatch.setattr(photos, "MOST_BYTES", 600)
    with pytest.raises(SystemExit, match="below 600 bytes"):
        photos.write(data, tmp_path)


# ---- records ----


def table(*args):
    done = subprocess.run([sys.executable, "-m", "train.report", "table", *map(str, args)], cwd=REPOSITORY, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(data, tmp_path_factory):
    """The options of a table, the record of the bundled model without its speed, its photos."""
    folder = tmp_path_factory.mktemp("measured")
    photos.write(data, folder / "gallery")
    options = [BUNDLED, "--root", data, "--results", folder / "results.json", "--bin", BINARY, "--gallery", folder / "gallery", "--threads", 2]
    table(*options, "--no-speed")
    return options, measure.read(folder / "results.json"), photos.read(folder / "gallery")


def test_a_record(data, measured):
    record = measured[1]["tinyvlm-25m"]
    assert record["sha256"] == hashlib.sha256(BUNDLED.read_bytes()).hexdigest() and record["bytes"] == BUNDLED.stat().st_size
    q = record["questions"]
    assert q["right"]["questions"]["flickr8k"]["n"] == 36 and q["right"]["questions"]["coco"]["n"] == 4
    assert q["train2017"] == {"n": 4, "accuracy": 0.5} and q["val2017"] == {"n": 2, "accuracy": 0.5}, "asked for yes and for no"
    assert q["prior"] == pytest.approx((q["right"]["questions"]["flickr8k"]["prior"] + 0.5) / 2, abs=1e-4)
    assert [record["captions"][way]["n"] for way in ("greedy", "shuffled", "beams")] == [12] * 3 and record["captions"]["width"] == 3
    assert set(record["presence"]) == set(pope.KINDS) and record["presence"]["random"]["n"] == len(pope.rows(data)) / 3
    assert record["presence"]["random"]["val2017"]["n"] == 4
    said = record["photos"]["demo/coffee.jpg"]
    assert list(said["prompts"]) == list(photos.PROMPTS) and said["caption"]
    assert said["prompts"]["Is there a person in the picture?"] in ("yes", "no")
    assert "speed" not in record


def test_parts_are_kept_until_the_file_changes(measured, tmp_path):
    options, before, _ = measured
    results = tmp_path / "results.json"
    measure.write(results, before | {"other": {"sha256": "0"}})
    table(*options, "--results", results, "--only", "speed")
    after = measure.read(results)
    speed = after["tinyvlm-25m"].pop("speed")
    assert after == before | {"other": {"sha256": "0"}}
    assert speed["threads"] == 2 and all(speed[k] > 0 for k in ("encode_ms", "token_ms", "first_token_ms", "peak_mb")) and speed["cpu"]
    measure.write(results, {"tinyvlm-25m": before["tinyvlm-25m"] | {"sha256": "another"}})
    table(*options, "--results", results, "--only", "photos")
    assert measure.PARTS.keys() & measure.read(results)["tinyvlm-25m"].keys() == {"photos"}


class Recorder:
    """An engine whose report is the options that it was given, and which answers nothing."""

    def __init__(self, beams=1):
        self.beams = beams

    def info(self):
        return {"describe_beams": self.beams}

    def eval(self, _, *options):
        return {"questions": {"coco": {"prior": 0.5}, "daquar": {"prior": 0.1}}, "captions": options, "options": options}, []


def test_each_way_is_asked_for(data):
    args = SimpleNamespace(root=data, beams=5, limit=7, questions="eval-v1.jsonl")
    test = ("--where", "split=test", "--where", "kind=human", "--limit", "7")
    greedy = test + ("--beams", "1")
    wide = {"greedy": greedy, "shuffled": greedy + ("--shuffle",), "beams": test + ("--beams", "5"), "width": 5}
    assert measure.captions(Recorder(), args) == wide
    q = measure.questions(Recorder(), args)
    assert [q[way]["options"][2:] for way in ("right", "shuffled", "grey")] == [(), ("--shuffle",), ("--grey",)]
    assert q["prior"] == 0.5 and q["right"]["options"] == ("--limit", "7")
    args.beams = None
    assert measure.captions(Recorder(5), args) == wide, "as many as describe takes"
    assert measure.captions(Recorder(), args) == {"greedy": greedy, "shuffled": greedy + ("--shuffle",)}


# ---- documents ----

ONE = "<!-- result: tinyvlm-25m {} -->{}<!-- end -->"


def test_documents_are_filled(measured):
    _, results, listing = measured
    document = render.Document("docs/X.md", results, listing)
    headline = 100 * results["tinyvlm-25m"]["questions"]["right"]["headline"]
    text = f"of {ONE.format('headline', 'old')} and {ONE.format('prior', '')}; 99 %"
    assert document.filled(text).startswith(f"of <!-- result: tinyvlm-25m headline -->{headline:.1f} %<!-- end --> and ")
    assert document.filled(document.filled(text)) == document.filled(text) != text
    for what in [*render.NUMBERS, *render.OF_ONE]:
        if what != "daquar":
            assert len(document.filled(ONE.format(what, ""))) > len(ONE.format(what, "")), what
    with pytest.raises(SystemExit, match="docs/X.md: .*'daquar' is neither known nor measured"):
        document.filled(ONE.format("daquar", ""))
    for what in render.TABLES:
        block = document.filled(f"<!-- result: {what} --><!-- end -->")
        widths = {line.count(" | ") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) == (what != "forms"), what
    assert "![A cup of coffee.](gallery/demo-coffee.jpg)" in document.filled(ONE.format("gallery", ""))
    assert "](../docs/gallery/" in render.Document("models/X.md", results, listing).filled(ONE.format("worst", ""))


def family(record):
    """Records of five variants, in disorder, each a little better than the one before it."""
    out = {}
    for i, (name, size, bytes_, precision) in enumerate([
            ("tinyvlm-100m", 100, 105, "auto"), ("tinyvlm-25m-q4", 28, 15, "auto"), ("tinyvlm-25m-f32", 28, 30, "f32"),
            ("tinyvlm-50m", 50, 55, "auto"), ("tinyvlm-25m", 28, 30, "auto")]):
        out[name] = json.loads(json.dumps(record)) | {
            "parameters": size * 10**6, "bytes": bytes_ * 10**6, "precision": precision, "sha256": f"{size} {bytes_}",
            "file": f"{name.removesuffix('-f32')}.gguf"}
        out[name]["questions"]["right"]["headline"] = 0.7 + size / 1000 - i / 10000
    return out


def rows_of(block):
    return [line[2:-2].split(" | ") for line in block.splitlines() if line.startswith("|")]


def test_variants_side_by_side(measured):
    _, results, listing = measured
    some = family(results["tinyvlm-25m"])
    del some["tinyvlm-50m"]["presence"], some["tinyvlm-100m"]["questions"]
    document = render.Document("models/X.md", some, listing)
    names = ["tinyvlm-25m", "tinyvlm-25m-f32", "tinyvlm-25m-q4", "tinyvlm-50m", "tinyvlm-100m"]
    head, _, *rows = rows_of(document.filled("<!-- result: variants --><!-- end -->"))
    column = {title: [row[i] for row in rows] for i, title in reversed(list(enumerate(head)))}
    assert [row[0] for row in rows] == names and {len(row) for row in rows} == {len(head)}
    assert column["beside"] == ["-", "tinyvlm-25m", "tinyvlm-25m", "tinyvlm-25m", "tinyvlm-50m"]
    assert column["headline, points"] == ["-", "+0.0", "+0.0", "+2.2", "-"] and column["headline"][3:] == ["75.0 %", "-"]
    assert column["presence, points"] == ["-", "+0.0", "+0.0", "-", "-"] and column["precision"][1] == "f32"
    files = rows_of(document.filled("<!-- result: files --><!-- end -->"))[2:]
    assert [row[0] for row in files] == [f"[`{n}.gguf`]({n}.md)" for n in names if n != "tinyvlm-25m-f32"], "a file is listed once"
    for what in ("kinds", "prompts"):
        assert rows_of(document.filled(f"<!-- result: {what} --><!-- end -->"))[0][2:] == [n for n in names if what == "prompts" or n != names[4]]


def test_a_card_is_begun_once(measured, tmp_path):
    _, results, listing = measured
    some = family(results["tinyvlm-25m"])
    model = tmp_path / "models" / "tinyvlm-25m-q4.gguf"
    model.parent.mkdir()
    card = Path(cards.begin(str(model)))
    assert card.read_text().startswith("# Tiny-VLM-25M, Q4\n") and card.read_text().count(cards.TO_WRITE) == 3
    card.write_text(card.read_text().replace(cards.TO_WRITE, "written:"))
    assert cards.begin(str(model)) is None and cards.TO_WRITE not in card.read_text(), "nothing written is lost"
    assert render.render(tmp_path, some, listing) == [os.path.join("models", card.name)]
    rows = rows_of(card.read_text())
    assert not any("tinyvlm-50m" in cell for row in rows for cell in row), "the tables of one"
    assert ["**tinyvlm-25m-q4**", "tinyvlm-25m-q4, shuffled"] == [row[0] for row in rows if "tinyvlm-25m-q4" in row[0]][1:3]
    assert render.render(tmp_path, some, listing) == []


def test_what_a_model_says_stays_in_its_cell():
    assert render.cell("a | b\n<img src=x> *c* [d](e) `f`") == r"a \| b \<img src=x\> \*c\* \[d\](e) \`f\`"
    assert render.cell(" ") == "(nothing)"


def test_the_window_is_judged(monkeypatch):
    record = {"window": {"a.jpg": "A cat.", "b.jpg": "A dog."}}
    shown = [{"file": "a.jpg", "shows": "a cat", "right": ["A cat."]}, {"file": "b.jpg", "shows": "two cats", "wrong": ["A dog."]}]
    monkeypatch.setattr(window, "read", lambda: shown)
    document = render.Document("js/X.md", {"m": {"parameters": 1, "bytes": 1, "precision": "auto"} | record}, [])
    rows = rows_of(document.filled("<!-- result: m window --><!-- end -->"))
    assert rows[0] == [f'<img src="../examples/photos/{name}.jpg" width="180" alt="{what}">' for name, what in (("a", "a cat"), ("b", "two cats"))]
    assert rows[2:] == [['"A cat."', '"A dog."'], ["right", "**wrong**: two cats"]]
    lines = document.filled("<!-- result: m window-list --><!-- end -->").splitlines()
    assert lines[1:3] == ['- a cat (`a.jpg`): "A cat.", right', '- two cats (`b.jpg`): "A dog.", **wrong**']
    record["window"]["b.jpg"] = "A parrot."
    with pytest.raises(SystemExit, match='photos.json: b.jpg: is "A parrot." right or wrong'):
        document.filled("<!-- result: m window --><!-- end -->")


def test_failures_are_marked(measured):
    _, results, listing = measured
    record = json.loads(json.dumps(results["tinyvlm-25m"]))
    record["photos"]["demo/coffee.jpg"]["prompts"] |= {"indoors or outdoors?": "yes", "Describe": "A cup of coffee."}
    record["photos"]["demo/coffee.jpg"]["caption"] = "An elephant."
    document = render.Document("docs/X.md", {"m": record}, listing)
    line = next(x for x in document.filled("<!-- result: m answers --><!-- end -->").splitlines() if "coffee.jpg" in x)
    assert "| ✗ yes |" in line and "| A cup of coffee. |" in line
    assert document.filled("<!-- result: m worst --><!-- end -->").splitlines()[3].startswith("| ![A cup of coffee.]")
    number = int(document.filled("<!-- result: m failed --><!-- end -->").split("-->")[1].split()[0])
    record["photos"]["demo/coffee.jpg"]["prompts"]["indoors or outdoors?"] = "Outdoors."
    assert int(document.filled("<!-- result: m failed --><!-- end -->").split("-->")[1].split()[0]) == number - 1


def test_words_in_common():
    assert render.in_common("Two dogs are running.", ["A dog runs.", "two of them"]) == pytest.approx(2 / 3)
    assert render.in_common("a", ["a dog"]) == 0


# ---- what is in the repository ----


@pytest.fixture
def copy(tmp_path):
    """The documents, apart."""
    for path in render.documents(REPOSITORY):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    return tmp_path


def committed():
    return measure.read(REPOSITORY / "models" / "results.json"), photos.read(REPOSITORY / photos.FOLDER)


def test_documents_say_what_was_measured(copy):
    assert render.render(copy, *committed()) == [], "run: python -m train.report fill"


def test_another_number_would_be_seen(copy):
    results, listing = committed()
    results["tinyvlm-25m"]["questions"]["right"]["headline"] += 0.001
    assert render.render(copy, results, listing) == ["README.md", "models/MODEL_CARD.md", "models/RESULTS.md", "models/tinyvlm-25m.md"]
    readme = copy / "README.md"
    readme.write_text(readme.read_text().replace(" %<!-- end -->", "1 %<!-- end -->"))
    assert "README.md" in render.render(copy, results, listing)


def test_results_are_of_the_files_here():
    results = committed()[0]
    here = {p.stem: hashlib.sha256(p.read_bytes()).hexdigest() for p in (REPOSITORY / "models").glob("*.gguf")}
    assert {name: results.get(name, {}).get("sha256") for name in here} == here, "run: python -m train.report table"


def test_each_file_has_a_card():
    """Whose sentences are written, and whose tables are its own."""
    for model in (REPOSITORY / "models").glob("*.gguf"):
        text = (REPOSITORY / "models" / f"{model.stem}.md").read_text()
        assert cards.TO_WRITE not in text
        assert [what for what in re.findall(r"<!-- result: (\S+) ", text) if what != model.stem] == []


def test_the_window_says_what_is_wrong():
    """Three photos or more that the bundled model gets right, one that it does not; the page marks that one."""
    said = committed()[0]["tinyvlm-25m"]["window"]
    right = {photo["file"]: window.is_right(photo, said[photo["file"]]) for photo in window.read()}
    assert sum(right.values()) >= 3 and not all(right.values())
    assert all((REPOSITORY / window.FOLDER / name).exists() for name in right)
    page = (REPOSITORY / "examples" / "web" / "index.html").read_text()
    buttons = re.findall(r'data-photo="/photos/([^"]+)".*?<span>(.*?)</span>', page, re.DOTALL)
    marked = {name: "(wrong)" not in label for name, label in buttons if name in right}
    assert len(marked) >= 3 and marked == {name: right[name] for name in marked}


def test_the_gallery_is_whole():
    folder, listing = REPOSITORY / photos.FOLDER, committed()[1]
    assert len(listing) == photos.N and all(p["credit"] and p["captions"] for p in listing)
    assert {f.name for f in folder.glob("*.jpg")} == {photos.file_name(p["image"]) for p in listing}
    assert max(f.stat().st_size for f in folder.glob("*.jpg")) <= photos.MOST_BYTES
    text = (REPOSITORY / "docs" / "GALLERY.md").read_text()
    assert all(text.count(f"(gallery/{photos.file_name(p['image'])})") == 2 and p["credit"] in text for p in listing)
