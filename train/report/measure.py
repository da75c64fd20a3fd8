"""Everything that is measured of a model file, as a record of models/results.json.

Parts are measured apart, so that one can be done again, or later; of other contents of the file nothing is kept."""

import hashlib
import json
import os
import platform

import train.corpus as corpus
import train.report.photos as photos
import train.report.pope as pope
import train.report.window as window

CAPTIONED = "flickr8k"
PHOTO = os.path.join("examples", "photos", "astronaut.jpg")  # that encoding is timed with
RUNS = 20
DIGITS = 5


def tidy(value):
    """Without what differs from machine to machine; numbers short enough to be read."""
    if isinstance(value, dict):
        return {k: tidy(v) for k, v in value.items() if k not in ("model", "images")}
    return round(value, DIGITS) if isinstance(value, float) else value


def accuracy(rows):
    return {"n": len(rows), "accuracy": pope.ratio(sum(r["right"] for r in rows), len(rows))}


def prior(report):
    """The headline without looking: the commonest answer to each question."""
    sources = [report["questions"][s]["prior"] for s in ("flickr8k", "coco") if s in report["questions"]]
    return pope.ratio(sum(sources), len(sources))


def questions(engine, args):
    rows, some = os.path.join(args.root, args.questions), limit(args)
    right, answered = engine.eval(rows, *some)
    clean = {r["image"] for r in corpus.captions(args.root, "all", "test") if pope.is_val2017(r)}
    coco = [r for r in answered if r["source"] in pope.SOURCES]
    return {"right": right, "shuffled": engine.eval(rows, *some, "--shuffle")[0],
            "grey": engine.eval(rows, *some, "--grey")[0], "prior": prior(right),
            "val2017": accuracy([r for r in coco if r["image"] in clean]),
            "train2017": accuracy([r for r in coco if r["image"] not in clean])}


def captions(engine, args):
    found = corpus.files(args.root, "all", f"{CAPTIONED}.captions.jsonl")
    if not found:
        raise SystemExit(f"table: {CAPTIONED}.captions.jsonl is not in {args.root}/research")
    test = [found[0], "--where", "split=test", "--where", "kind=human", *limit(args)]
    width = args.beams or engine.info()["describe_beams"]
    ways = {"greedy": ["--beams", "1"], "shuffled": ["--beams", "1", "--shuffle"]}
    if width > 1:
        ways["beams"] = ["--beams", str(width)]
    out = {name: engine.eval(*test, *options)[0]["captions"] for name, options in ways.items()}
    return out | ({"width": width} if width > 1 else {})


def presence(engine, args):
    report, answered = engine.eval(pope.rows(args.root), *limit(args))
    out = {}
    for kind in report["questions"]:
        here = [r for r in answered if r["source"] == kind]
        out[kind] = pope.scores(here) | {"prior": report["questions"][kind]["prior"],
                                         "val2017": pope.scores([r for r in here if r["part"] == "val2017"])}
    return out


def first_prompts(engine, args):
    return photos.gather(engine.eval(photos.rows(photos.read(args.gallery)), "--max-tokens", "40")[1])


def speed(engine, args):
    bench = engine.json(engine.command("bench", PHOTO, "--json", "--no-peaks", "--runs", str(RUNS)))
    ms = {name: stage["median_ms"] for name, stage in bench["stages"].items()}
    return {"encode_ms": ms["preprocess"] + ms["tower"] + ms["bridge"], "token_ms": ms["decode"],
            "first_token_ms": ms["first_token"], "peak_mb": bench["peak_rss_mb"], "threads": bench["threads"],
            "cpu": f"{processor()}, {bench['cpu']}"}


PARTS = {"questions": questions, "captions": captions, "presence": presence, "photos": first_prompts, "window": window.describe,
         "speed": speed}


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def limit(args):
    return ["--limit", str(args.limit)] if args.limit else []


def identity(engine):
    info = engine.info()
    with open(engine.model, "rb") as f:
        sha256 = hashlib.sha256(f.read()).hexdigest()
    return {"file": os.path.basename(engine.model), "precision": engine.precision, "sha256": sha256, "bytes": info["file_bytes"],
            "parameters": info["parameters"], "layers": info["layers"], "memory": info["memory"]["total"]}


def name(engine):
    stem = os.path.basename(engine.model).removesuffix(".gguf")
    return stem if engine.precision == "auto" else f"{stem}-{engine.precision}"


def record(engine, args, before):
    """What is known of the file (before: the last record), with the parts asked for measured anew."""
    now = identity(engine)
    kept = {k: v for k, v in before.items() if k in PARTS} if before.get("sha256") == now["sha256"] else {}
    for part in args.parts:
        print(f"{engine.model}: {part}", flush=True)
        kept[part] = PARTS[part](engine, args)
    return tidy(now | kept)


# ---- the file ----


def read(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def write(path, results):
    with open(f"{path}.new", "w", encoding="utf-8") as f:
        f.write(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    os.replace(f"{path}.new", path)
