"""The shop window: example photos, what a model says of each, and whether a person found that right.

examples/photos/photos.json lists them, with the descriptions that were judged so far; one that was not is an error, so that other weights
need no change but theirs."""

import json
import os

FOLDER = os.path.join("examples", "photos")
WIDTH = 180  # in pages
ROOT = os.path.join(os.path.dirname(__file__), "..", "..")


def read():
    with open(os.path.join(ROOT, FOLDER, "photos.json"), encoding="utf-8") as f:
        return json.load(f)


def describe(engine, _):
    """{file: its description}"""
    files = [photo["file"] for photo in read()]
    said = engine.lines(engine.command("describe", "--json", *(os.path.join(ROOT, FOLDER, name) for name in files)))
    return {name: line["text"] for name, line in zip(files, said)}


def is_right(photo, said):
    for judged in ("right", "wrong"):
        if said in photo.get(judged, []):
            return judged == "right"
    raise SystemExit(f"{FOLDER}/photos.json: {photo['file']}: is \"{said}\" right or wrong? It is in neither list")


def verdict(photo, said):
    return "right" if is_right(photo, said) else f"**wrong**: {photo['shows']}"


def table(record, where):
    """The photos, below them what the model says, and whether it is so."""
    shown = [(photo, record["window"][photo["file"]]) for photo in read()]
    folder = os.path.relpath(FOLDER, where.folder or ".")
    rows = [[f'<img src="{folder}/{photo["file"]}" width="{WIDTH}" alt="{photo["shows"]}">' for photo, _ in shown], ["---"] * len(shown),
            [f"\"{said}\"" for _, said in shown], [verdict(photo, said) for photo, said in shown]]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def listing(record, _):
    """The same in words, for where no picture is."""
    return "\n".join(f"- {photo['shows']} (`{photo['file']}`): \"{record['window'][photo['file']]}\", "
                     f"{'right' if is_right(photo, record['window'][photo['file']]) else '**wrong**'}" for photo in read())
