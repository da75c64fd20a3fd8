"""What a model file answers in the C engine: `tinyvlm eval` on the data folder's questions and test captions."""

import os
import subprocess

import train.corpus as corpus

CAPTIONED = "flickr8k"


def tell(args, what, rows, *options):
    print(f"--- {what}", flush=True)
    images = [o for path in corpus.files(args.root, "all", "*.tar") for o in ("--images", path)]
    engine = ["-m", args.model, "--threads", str(args.threads), "--precision", args.precision, "--quiet"]
    subprocess.run([args.bin, "eval", rows, *images, *engine, *options], check=True)


def run(args):
    questions = os.path.join(args.root, args.questions)
    limit = ["--limit", str(args.limit)] if args.limit else []
    tell(args, "questions", questions, *limit)
    if args.shuffled:
        tell(args, "questions about other pictures", questions, *limit, "--shuffle")
    for rows in corpus.files(args.root, "all", f"{CAPTIONED}.captions.jsonl"):
        tell(args, "captions", rows, "--where", "split=test", "--where", "kind=human", "--limit", str(args.captions),
             "--prompt", args.prompt)
