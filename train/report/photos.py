"""Thirty photos whose terms let them be shown, the prompts that people type first, and what an answer to each looks like."""

import io
import json
import os
import re
import tarfile

import train.corpus as corpus
import train.report.engine as engine

FOLDER = os.path.join("docs", "gallery")  # thumbnails, and photos.json: what they show and whose they are
N = 30
SIDE, MOST_BYTES = 176, 12000             # of a thumbnail
LICENCE = "CC BY 2.0"                     # of COCO pictures here: no share-alike among the documents

PLACES = "indoors?|outdoors?|inside|outside"
NUMBERS = "no|none|zero|one|two|three|four|five|six|seven|eight|nine|ten|many|several|[0-9]+"
COLOURS = "red|blue|green|yellow|black|white|brown|orange|pink|purple|gr[ae]y|tan"
REFUSAL = "(sorry,? )?i (can't|cannot) .*"
ELSEWHERE = re.compile(f"(yes|no)\\b.*|{NUMBERS}|{COLOURS}|{PLACES}|{REFUSAL}")  # answers to other questions
FORMS = {
    "sentence": "two words or more; not \"yes ...\", \"no ...\" or a refusal",
    "thing": "a word or more; not yes, no, a number, a colour, indoors, outdoors or a refusal",
    "yes or no": "yes or no",
    "number": "a number, as a word or in digits, alone or before what is counted",
    "place": "indoors, outdoors, inside or outside",
    "refusal": "\"I can't ...\", as the models read no text",
}
PROMPTS = {"Describe": "sentence", "describe the photo": "sentence", "caption": "sentence", "What is this?": "thing",
           "What do you see?": "thing", "what objects are visible": "thing", "Is there a person in the picture?": "yes or no",
           "how many people": "number", "indoors or outdoors?": "place", "read the text": "refusal"}
SHOWN = ["what objects are visible", "how many people", "indoors or outdoors?"]  # in the gallery


def fits(form, answer):
    """Whether the answer is one to such a question, right or wrong."""
    said = answer.strip(" .!").lower()
    patterns = {"yes or no": "yes|no", "number": f"({NUMBERS})( .+)?", "place": PLACES, "refusal": REFUSAL}
    if form in patterns:
        return bool(re.fullmatch(patterns[form], said))
    return len(said.split()) >= (2 if form == "sentence" else 1) and not ELSEWHERE.fullmatch(said)


def failures(answers):
    """[(photo, prompt, answer)] of {photo: {prompt: answer}}"""
    return [(photo, prompt, answer) for photo, said in answers.items() for prompt, answer in said.items()
            if not fits(PROMPTS[prompt], answer)]


# ---- the photos ----


def choose(root):
    """All of the demo, then COCO's test pictures in the order of their numbers."""
    demo = corpus.json_lines(os.path.join(root, engine.DEMO, "demo.captions.jsonl"))
    coco = (r for r in corpus.captions(root, "permissive", "test")
            if r["source"] == "coco_ccby" and r["kind"] == "human" and f"image {LICENCE};" in r["licence"])
    return (list(demo) + sorted(coco, key=lambda r: r["image"]))[:N]


def credit(row):
    if "flickr_url" not in row:
        return row["licence"]
    number = re.search(r"/(\d+)_", row["flickr_url"]).group(1)
    return f"[Flickr photo {number}]({row['flickr_url']}), {LICENCE}; the caption: COCO, CC BY 4.0"


def file_name(key):
    return key.replace("/", "-")


def thumbnail(data):
    from PIL import Image
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    for quality in range(80, 20, -5):
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=quality, optimize=True)
        if len(out.getvalue()) <= MOST_BYTES:
            return out.getvalue()
    raise SystemExit(f"thumbnails: no quality brings a picture below {MOST_BYTES} bytes")


def pictures(root, keys):
    """{key: JPEG bytes}"""
    out = {}
    for path in engine.archives(root):
        with tarfile.open(path) as tar:
            out |= {m.name: tar.extractfile(m).read() for m in tar if m.name in keys}
    return out


def write(root, folder):
    """The thumbnails and photos.json."""
    chosen = choose(root)
    data = pictures(root, {row["image"] for row in chosen})
    os.makedirs(folder, exist_ok=True)
    for row in chosen:
        with open(os.path.join(folder, file_name(row["image"])), "wb") as f:
            f.write(thumbnail(data[row["image"]]))
    listing = [{"image": r["image"], "captions": r["captions"], "credit": credit(r)} for r in chosen]
    with open(os.path.join(folder, "photos.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(listing, indent=1) + "\n")


def read(folder):
    with open(os.path.join(folder, "photos.json"), encoding="utf-8") as f:
        return json.load(f)


def rows(listing):
    """What each photo is asked; any answer will do here."""
    return [{"image": p["image"], "captions": p["captions"]} for p in listing] + [
        {"image": p["image"], "question": prompt, "answers": ["-"]} for p in listing for prompt in PROMPTS]


def gather(answered):
    """{photo: {"caption": its description, "prompts": {prompt: answer}}}"""
    out = {r["image"]: {"caption": r["answer"], "prompts": {}} for r in answered if "captions" in r}
    for r in answered:
        if "question" in r:
            out[r["image"]]["prompts"][r["question"]] = r["answer"]
    return out
