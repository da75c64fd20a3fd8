"""python -m train.report COMMAND ...: measures model files with the C engine and shows it, from the repository's root."""

import argparse
import os

import train.report.cards as cards
import train.report.engine as engine
import train.report.measure as measure
import train.report.photos as photos
import train.report.pope as pope
import train.report.render as render

RESULTS = os.path.join("models", "results.json")


def add_table(commands):
    p = commands.add_parser("table", help="measure files, keep it in models/results.json, begin their cards, fill the documents")
    p.add_argument("models", nargs="+", metavar="MODEL")
    p.add_argument("--root", required=True, help="the data folder")
    p.add_argument("--only", nargs="+", choices=measure.PARTS, dest="parts", default=list(measure.PARTS), help="these parts alone")
    p.add_argument("--no-speed", action="store_true", help="on a busy machine; `--only speed` adds it on an idle one")
    p.add_argument("--limit", type=int, help="a sample of so many questions and captions, for a quick look")
    p.add_argument("--beams", type=int, help="width of the beams column (default: by as many as `describe` takes)")
    p.add_argument("--results", default=RESULTS, help=f"file of the results (default: {RESULTS}); of another one no document is filled")
    p.add_argument("--questions", default="eval-v1.jsonl", help="file under --root")
    p.add_argument("--bin", default=os.path.join("build", "tinyvlm"))
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--precision", default="auto", help="of the engine: auto, f32, int16, int8 or bf16")
    p.add_argument("--gallery", default=photos.FOLDER, help=f"folder of the photos to show (default: {photos.FOLDER})")
    p.set_defaults(run=table)


def table(args):
    if args.no_speed:
        args.parts = [part for part in args.parts if part != "speed"]
    for path in args.models:
        model = engine.Engine(args.bin, path, args.root, args.threads, args.precision)
        results, name = measure.read(args.results), measure.name(model)
        results[name] = measure.record(model, args, results.get(name, {}))
        measure.write(args.results, results)
    if args.results == RESULTS:
        begun = filter(None, map(cards.begin, args.models))
        print("".join(f"{path}: a card whose sentences are to be written\n" for path in begun), end="")
        fill(args)


def fill(_):
    changed = render.render(".", measure.read(RESULTS), photos.read(photos.FOLDER))
    print("\n".join(f"filled {path}" for path in changed) or "the documents are as measured")


def main():
    parser = argparse.ArgumentParser(prog="python -m train.report", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_table(commands)
    p = commands.add_parser("fill", help="fill the documents with models/results.json")
    p.set_defaults(run=fill)
    p = commands.add_parser("pope", help="write the rows that ask for presence as POPE does")
    p.add_argument("--root", required=True)
    p.add_argument("out")
    p.set_defaults(run=lambda a: engine.write(a.out, pope.rows(a.root)))
    p = commands.add_parser("thumbnails", help="choose the photos of the gallery anew")
    p.add_argument("--root", required=True)
    p.add_argument("--gallery", default=photos.FOLDER)
    p.set_defaults(run=lambda a: photos.write(a.root, a.gallery))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
