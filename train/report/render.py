"""Numbers of models/results.json in documents, between marks that no reader sees:

    <!-- result: WHAT -->...<!-- end -->          a table of all models, small ones first
    <!-- result: MODEL WHAT -->...<!-- end -->    a number, the same table or the gallery of one

Nothing between them is written by hand; a test compares."""

import glob
import os
import re

import train.report.cards as cards
import train.report.photos as photos
import train.report.window as window

MARK = re.compile(r"(<!-- result: (?:([\w.-]+) )?([\w.-]+) -->)(.*?)(<!-- end -->)", re.DOTALL)
DOCUMENTS = ["README.md", os.path.join("js", "README.md"), os.path.join("examples", "photos", "README.md"),
              os.path.join("docs", "GALLERY.md"), os.path.join("models", "*.md")]
NONE = "-"
SOURCES = {"flickr8k": "Flickr8k", "coco": "COCO", "daquar": "DAQUAR", "coco_ccby": "COCO CC BY"}
WORST = 5
SMALL = {"a", "an", "the", "is", "are", "of", "in", "on", "and", "with", "to", "at", "his", "her", "its", "it", "s"}


def percent(value):
    return f"{100 * value:.1f} %"


def table(head, rows, texts=1):
    """Markdown; the first columns are texts, numbers stand to the right."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, rule, *rows])


def ordered(results):
    """By parameters; of as many, the whole file before those that were made smaller, and as it is run before other precisions."""
    return dict(sorted(results.items(), key=lambda item: (item[1]["parameters"], -item[1]["bytes"], item[1]["precision"] != "auto", item[0])))


def known(results, part):
    return {name: r for name, r in results.items() if part in r}


# ---- questions ----


def share(entry):
    """With its 95 % interval, where there is one."""
    if not entry or not entry["n"]:
        return NONE
    around = f" ({100 * entry['low']:.1f} - {100 * entry['high']:.1f})" if "low" in entry else ""
    return percent(entry["accuracy"]) + around


def of_sources(report):
    return [share(report["questions"].get(s)) for s in SOURCES]


def question_rows(name, q):
    n = sum(source["n"] for source in q["right"]["questions"].values())
    yield [f"**{name}**", n, f"**{percent(q['right']['headline'])}**", *of_sources(q["right"]), share(q["val2017"]),
           share(q["train2017"])]
    for blind in ("shuffled", "grey"):
        yield [f"{name}, {blind}", "", percent(q[blind]["headline"]), *map(plain, of_sources(q[blind])), "", ""]


def plain(cell):
    return cell.partition(" (")[0]


def prior_row(q):
    sources = q["right"]["questions"]
    return ["prior of the questions", "", percent(q["prior"]),
            *(percent(sources[s]["prior"]) if s in sources else NONE for s in SOURCES), "", ""]


def questions(results, _):
    models = known(results, "questions")
    rows = [row for name, r in models.items() for row in question_rows(name, r["questions"])]
    if models:
        rows.append(prior_row(next(iter(models.values()))["questions"]))
    return table(["", "n", "headline", *SOURCES.values(), "val2017", "train2017"], rows)


def kinds(results, _):
    """Accuracy by type of question, behind it that with pictures shuffled."""
    models = {name: r["questions"] for name, r in known(results, "questions").items()}
    rows = []
    for source, title in SOURCES.items():
        for kind in dict.fromkeys(k for q in models.values() for k in of_kind(q, "right", source)):
            cells = [of_kind(q, "right", source).get(kind) for q in models.values()]
            blind = [of_kind(q, "shuffled", source).get(kind) for q in models.values()]
            rows.append([f"{title}: {kind}", max(c["n"] for c in cells if c),
                         *(f"{share(c)}, {share(b)}" for c, b in zip(cells, blind))])
    return table(["", "n", *models], rows)


def of_kind(q, way, source):
    return q[way]["questions"].get(source, {}).get("kinds", {})


# ---- captions, presence, prompts ----


def caption(score):
    return [f"{score['cider_d']:.3f} ± {score['cider_d_margin']:.3f}", f"{score['bleu4']:.3f}"] if score else [NONE, NONE]


def captions(results, _):
    rows = [[name, c["greedy"]["n"], *caption(c["greedy"]), *caption(c.get("beams")), c.get("width", NONE),
             caption(c["shuffled"])[0], c["greedy"]["empty"], c["greedy"]["distinct_words"]]
            for name, c in ((name, r["captions"]) for name, r in known(results, "captions").items())]
    return table(["", "n", "CIDEr-D, greedy", "BLEU-4", "CIDEr-D, beams", "BLEU-4", "beams", "CIDEr-D, shuffled", "empty",
                  "distinct words"], rows)


def presence(results, _):
    rows = [[name, kind, p["n"], *(percent(p[k]) for k in ("accuracy", "precision", "recall", "f1", "yes", "prior")),
             f"{share(p['val2017'])} of {p['val2017']['n']}"]
            for name, r in known(results, "presence").items() for kind, p in r["presence"].items()]
    return table(["", "absent", "n", "accuracy", "precision", "recall", "F1", "says yes", "prior", "val2017"], rows, texts=2)


def failed(record):
    return photos.failures({key: p["prompts"] for key, p in record["photos"].items()})


def prompts(results, _):
    models = known(results, "photos")
    found = {name: [prompt for _, prompt, _ in failed(r)] for name, r in models.items()}
    rows = [[prompt, form, *(f"{f.count(prompt)} of {len(models[name]['photos'])}" for name, f in found.items())]
            for prompt, form in photos.PROMPTS.items()]
    return table(["prompt", "wanted", *models], rows + [["all", "", *(len(f) for f in found.values())]], texts=2)


def forms(*_):
    return "\n".join(f"- *{form}*: {rule}" for form, rule in photos.FORMS.items())


# ---- variants, files and speed ----


def card_of(record, where):
    return os.path.relpath(os.path.join("models", cards.path_of(record["file"])), where.folder or ".")


def beside(results, name):
    """What a variant is compared with: the file that it was made smaller from or is run otherwise, else the next smaller model."""
    sizes = {n: r["parameters"] for n, r in results.items()}
    alike = [n for n in results if sizes[n] == sizes[name]]
    smaller = max((size for size in sizes.values() if size < sizes[name]), default=None)
    return alike[0] if alike[0] != name else next((n for n in results if sizes[n] == smaller), None)


def headline(record):
    return record["questions"]["right"]["headline"] if "questions" in record else None


def described(record):
    """CIDEr-D as `describe` answers."""
    c = record.get("captions")
    return c and c.get("beams", c["greedy"])["cider_d"]


def presence_mean(record):
    """Accuracy of presence, the mean of the three kinds of absent things."""
    kinds_of = record.get("presence")
    return kinds_of and sum(p["accuracy"] for p in kinds_of.values()) / len(kinds_of)


def shown(value, form):
    return NONE if value is None else form(value)


def gained(measure, record, other, form):
    """How much more than another gives."""
    return NONE if other is None or None in (measure(record), measure(other)) else form(measure(record) - measure(other))


def points(share_of):
    return f"{100 * share_of:+.1f}"


def variant(results, name):
    r, other = results[name], beside(results, name)
    speeds, o = r.get("speed", {}), results.get(other)
    blind = "questions" in r and {"questions": {"right": r["questions"]["shuffled"]}}
    return [name, r["precision"], f"{r['parameters'] / 1e6:.1f}", f"{r['bytes'] / 1e6:.1f}", shown(headline(r), percent),
            gained(headline, r, blind or None, points), shown(described(r), "{:.3f}".format), shown(presence_mean(r), percent),
            shown(speeds.get("encode_ms"), "{:.1f}".format), shown(speeds.get("token_ms"), "{:.2f}".format),
            shown(speeds.get("peak_mb"), "{:.0f}".format), other or NONE, gained(headline, r, o, points),
            gained(described, r, o, "{:+.3f}".format), gained(presence_mean, r, o, points)]


def variants(results, _):
    """What each gives, and how much more than the one before it: bigger is to be better, smaller no worse."""
    return table(["", "precision", "parameters, millions", "size, 10^6 bytes", "headline", "over shuffled, points", "CIDEr-D", "presence",
                  "encode, ms", "a token, ms", "peak memory, MB", "beside", "headline, points", "CIDEr-D", "presence, points"],
                 [variant(results, name) for name in results])


def files(results, where):
    rows = [[f"[`{r['file']}`]({card_of(r, where)})", f"{r['parameters'] / 1e6:.1f}", r["layers"], f"{r['bytes'] / 1e6:.1f}", f"{r['memory'] / 1e6:.1f}",
             f"`{r['sha256']}`"] for r in {r["sha256"]: r for r in reversed(results.values())}.values()][::-1]
    return table(["file", "parameters, millions", "layers", "size, 10^6 bytes", "memory", "SHA-256"], rows)


def speed(results, _):
    rows = [[name, f"{s['encode_ms']:.1f}", f"{s['token_ms']:.2f}", f"{s['first_token_ms']:.1f}", f"{s['peak_mb']:.0f}", s["threads"], s["cpu"]]
            for name, s in ((name, r["speed"]) for name, r in known(results, "speed").items())]
    return table(["", "encode, ms", "a token, ms", "first token, ms", "peak memory, MB", "threads", "machine"], rows)


# ---- one model's photos ----


def content(text):
    """Its words without the small ones and without plurals."""
    return {w.rstrip("s") for w in re.findall(r"[a-z]+", text.lower()) if w not in SMALL}


def in_common(said, people):
    """Share of a caption's words that are in any of people's."""
    words = content(said)
    return len(words & set().union(*map(content, people))) / len(words) if words else 0.0


def cell(text):
    """Text of a model as one cell of a table, whatever it says."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split())) or "(nothing)"


def picture(photo, folder):
    path = os.path.relpath(os.path.join(photos.FOLDER, photos.file_name(photo["image"])), folder or ".")
    return f"![{cell(photo['captions'][0])}]({path})"


def gallery(record, where):
    rows = []
    for photo in where.listing:
        said = record["photos"][photo["image"]]
        answers = "".join(f"<br>{prompt} *{cell(said['prompts'][prompt])}*" for prompt in photos.SHOWN)
        rows.append([picture(photo, where.folder), f"**{cell(said['caption'])}**{answers}<br>People: {cell(photo['captions'][0])}"
                                                   f"<br><sub>{photo['credit']}</sub>"])
    return table(["photo", "answers"], rows, texts=2)


def answers(record, where):
    """All answers to the first prompts; those that fail are marked."""
    bad = {(photo, prompt) for photo, prompt, _ in failed(record)}
    rows = [[picture(photo, where.folder), *(("✗ " if (photo["image"], prompt) in bad else "") + cell(said)
                                             for prompt, said in record["photos"][photo["image"]]["prompts"].items())]
            for photo in where.listing]
    return table(["photo", *photos.PROMPTS], rows, texts=1 + len(photos.PROMPTS))


def worst(record, where):
    """The captions with the fewest words in common with people's."""
    rank = sorted(where.listing, key=lambda p: in_common(record["photos"][p["image"]]["caption"], p["captions"]))
    rows = [[picture(p, where.folder), cell(record["photos"][p["image"]]["caption"]), cell(p["captions"][0])] for p in rank[:WORST]]
    return table(["photo", "the model", "people"], rows, texts=3)


NUMBERS = {
    "headline": lambda r: percent(r["questions"]["right"]["headline"]),
    "shuffled": lambda r: percent(r["questions"]["shuffled"]["headline"]),
    "prior": lambda r: percent(r["questions"]["prior"]),
    "flickr8k": lambda r: percent(r["questions"]["right"]["questions"]["flickr8k"]["accuracy"]),
    "coco": lambda r: percent(r["questions"]["right"]["questions"]["coco"]["accuracy"]),
    "daquar": lambda r: percent(r["questions"]["right"]["questions"]["daquar"]["accuracy"]),
    "cider": lambda r: f"{r['captions']['greedy']['cider_d']:.2f}",
    "bleu": lambda r: f"{r['captions']['greedy']['bleu4']:.2f}",
    "megabytes": lambda r: f"{r['bytes'] / 1e6:.0f} MB",
    "failed": lambda r: f"{len(failed(r))} of {sum(len(p['prompts']) for p in r['photos'].values())}",
    "sha256": lambda r: f"`{r['sha256']}`",
}
TABLES = {f.__name__: f for f in (variants, questions, kinds, captions, presence, prompts, forms, files, speed)}
OF_ONE = {f.__name__: f for f in (gallery, answers, worst)} | {"window": window.table, "window-list": window.listing}


class Document:
    """Where a text stands, and what it is filled with."""

    def __init__(self, path, results, listing):
        self.path, self.folder, self.results, self.listing = path, os.path.dirname(path), ordered(results), listing

    def value(self, model, what):
        if model is None:
            return "\n" + TABLES[what](self.results, self) + "\n"
        record = self.results[model]
        if what in NUMBERS:
            return NUMBERS[what](record)
        of_one = TABLES[what]({model: record}, self) if what in TABLES else OF_ONE[what](record, self)
        return "\n" + of_one + "\n"

    def replaced(self, match):
        begin, model, what, _, end = match.groups()
        try:
            return begin + self.value(model, what) + end
        except KeyError as missing:
            raise SystemExit(f"{self.path}: '{match.group(1)}': {missing} is neither known nor measured") from None

    def filled(self, text):
        return MARK.sub(self.replaced, text)


def documents(root):
    return [path for pattern in DOCUMENTS for path in sorted(glob.glob(pattern, root_dir=root))]


def render(root, results, listing):
    """Fills all documents below root; the paths of those that changed."""
    changed = []
    for path in documents(root):
        full = os.path.join(root, path)
        with open(full, encoding="utf-8") as f:
            text = f.read()
        new = Document(path, results, listing).filled(text)
        if new != text:
            changed.append(path)
            with open(full, "w", encoding="utf-8") as f:
                f.write(new)
    return changed
