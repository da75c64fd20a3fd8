"""The same questions through the C engine and a model file, as a user gets them.

  python evaluate_engine.py --bin build/tinyvlm --model M.gguf --root DATA --pictures DIR [--limit N]

DIR holds the pictures of the tars, unpacked (flickr8k/..., coco/...). Prints accuracy per source and
the headline (mean of Flickr8k and COCO)."""

import argparse
import json
import os
import subprocess

from evaluate import HEADLINE, accuracy


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--root", required=True)
    p.add_argument("--pictures", required=True)
    p.add_argument("--questions", default="eval-v1.jsonl")
    p.add_argument("--limit", type=int)
    args = p.parse_args()
    with open(os.path.join(args.root, args.questions), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    rows = [r for r in rows if r["source"] in HEADLINE and os.path.exists(os.path.join(args.pictures, r["image"]))]
    rows.sort(key=lambda r: r["image"])
    rows = rows[:args.limit]
    lines, last = [], None
    for r in rows:
        lines.append("/reset" if r["image"] == last else "/image " + os.path.join(args.pictures, r["image"]))
        lines.append(r["question"])
        last = r["image"]
    out = subprocess.run([args.bin, "chat", "--json", "-m", args.model, "--max-tokens", "12"],
                         input="\n".join(lines) + "\n", capture_output=True, text=True, check=True).stdout
    answers = [json.loads(line)["text"] for line in out.splitlines()]
    assert len(answers) == len(rows), (len(answers), len(rows))
    table = accuracy(rows, answers)
    for source, (acc, kinds) in sorted(table.items()):
        print(f"{source:10s} {100 * acc:5.1f}%  " + ", ".join(f"{k} {100 * a:.1f} (n={n})" for k, (a, n) in kinds.items()))
    print(f"headline {100 * sum(table[s][0] for s in HEADLINE) / len(HEADLINE):.1f}% of {len(rows)} questions")


if __name__ == "__main__":
    main()
