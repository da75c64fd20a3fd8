#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What --lookup foretells of real answers: tokens per decoder pass and the share of drafted tokens that came true, neither of
which depends on how busy the machine is; each answer is compared with the one without it.

    bench/lookup.py MODEL                       bench/prompts.txt, greedy
    bench/lookup.py MODEL --images DIR          each picture of DIR asked each prompt
    bench/lookup.py MODEL -- --temperature 0.8 --seed 1
"""

import argparse
import json
import pathlib
import subprocess

HERE = pathlib.Path(__file__).parent


def answer(args, prompt, image, *options):
    command = [args.tinyvlm, "ask" if image else "chat", "-m", args.model, "-n", str(args.tokens), "-q", "--json", *options]
    words = [image, prompt] if image else []
    out = subprocess.run([*command, *args.options, *words], input=prompt, capture_output=True, text=True, check=True)
    return json.loads(out.stdout.splitlines()[0])


def questions(args):
    prompts = args.prompts.read_text().splitlines()
    images = sorted(map(str, args.images.iterdir())) if args.images else [None]
    return [(prompt, image) for prompt in prompts for image in images]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("options", nargs="*", help="of tinyvlm, after --")
    parser.add_argument("--prompts", type=pathlib.Path, default=HERE / "prompts.txt")
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--tinyvlm", default=str(HERE.parent / "build/tinyvlm"))
    args = parser.parse_args()
    total = [0, 0, 0]
    print(f"{'tokens':>7}{'drafted':>9}{'accepted':>10}{'tokens/pass':>13}")
    for prompt, image in questions(args):
        plain, guessed = answer(args, prompt, image), answer(args, prompt, image, "--lookup")
        assert plain["text"] == guessed["text"] and plain["finish"] == guessed["finish"], prompt
        row = [guessed["tokens"], guessed["drafted_tokens"], guessed["accepted_tokens"]]
        total = [a + b for a, b in zip(total, row)]
        show(row, prompt[:60])
    show(total, "all")


def show(row, name):
    tokens, drafted, accepted = row
    print(f"{tokens:7}{drafted:9}{accepted:10}{tokens / (tokens - accepted):13.2f}   {name}")


if __name__ == "__main__":
    main()
