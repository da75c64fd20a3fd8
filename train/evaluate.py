"""What a model file answers in the C engine, at a glance; train/report measures all there is to say of one."""

import os
import subprocess

import train.corpus as corpus
import train.report.engine as engine

CAPTIONED = "flickr8k"


def run(args):
    model = engine.Engine(args.bin, args.model, args.root, args.threads, args.precision)
    questions = os.path.join(args.root, args.questions)
    limit = ["--limit", str(args.limit)] if args.limit else []

    def tell(what, rows, *options):
        print(f"--- {what}", flush=True)
        subprocess.run(model.ask(rows, *options), check=True)

    tell("questions", questions, *limit)
    if args.shuffled:
        tell("questions about other pictures", questions, *limit, "--shuffle")
    for rows in corpus.files(args.root, "all", f"{CAPTIONED}.captions.jsonl"):
        tell("captions", rows, "--where", "split=test", "--where", "kind=human", "--limit", str(args.captions),
             "--prompt", args.prompt)
