#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What each precision costs, as tables of docs/PRECISION.md:

    bench/precision.py classes NAME=FASTVLM.gguf ...   a float model in every numeric class, and in PyTorch's bfloat16
    bench/precision.py blocks FASTVLM.gguf             its decoder in block types, with float and int8 activations
    bench/precision.py answers DATA                    the bundled model's answers to the questions of a data folder (train/README.md)

Errors are relative L2. Needs bench/peers/requirements.txt and build/tinyvlm; tools/oracle/make_checkpoint.py makes models."""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(ROOT), str(ROOT / "bench" / "peers")]
DOCUMENT = ROOT / "docs" / "PRECISION.md"
PHOTO = ROOT / "examples" / "photos" / "astronaut.jpg"
BUNDLED = ROOT / "models" / "tinyvlm-25m.gguf"
CLASSES = ["bf16", "int16", "int8"]
BLOCKS = ["q8_0", "q6_k", "q5_k", "q4_k", "q5_1", "q5_0", "q4_1", "q4_0"]
QUESTION = "Describe the image."
TEXT = "A man walks his dog along the beach while two children play with a red ball near the water. What do they do next?"
SHARE = "%.1f %%"


def error(got, want):
    got, want = got.astype(np.float64), want.astype(np.float64)
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def same_top(got, want):
    return 100 * np.mean(got.argmax(-1) == want.argmax(-1))


class Engine:
    def __init__(self, args, folder):
        self.args, self.folder = args, pathlib.Path(folder)

    def run(self, *command):
        subprocess.run([self.args.bin, *command, "-q"], check=True)

    def dump(self, model, precision, *options):
        """bf16 runs on the scalar tier, which every machine has and whose bits all tiers have."""
        from safetensors.numpy import load_file

        out = self.folder / "dump.safetensors"
        tier = ["--cpu", "scalar"] if precision == "bf16" else []
        self.run("dump", "-m", model, "-o", out, "--new-tokens", "0", "--threads", str(self.args.threads),
                 "--precision", precision, *tier, *options)
        return load_file(out)

    def see(self, model, precision):
        return self.dump(model, precision, "--image", PHOTO, "-p", QUESTION)

    def read(self, model, precision):
        return self.dump(model, precision, "-p", TEXT)["logits"]

    def quantized(self, model, kind):
        out = self.folder / f"{kind}.gguf"
        self.run("quantize", model, out, "--type", kind)
        return out


# ---- PyTorch ----


def torch_decoder(path, rows_of):
    """Logits of every row; rows_of(decoder): the embedded rows."""
    import nets
    import torch

    with torch.inference_mode():
        net = nets.Qwen2(path, torch.bfloat16)
        return net.logits(net.hidden(rows_of(net))).float().numpy()


def torch_reads(path, ids):
    import torch

    return torch_decoder(path, lambda net: net.embed(torch.from_numpy(ids).long()))


def torch_sees(path, tensors):
    """(vision tokens, logits) of the pixels and ids that the engine had."""
    import nets
    import torch
    import torch.nn.functional as F

    pixels = tensors["pixel_values"]
    with torch.inference_mode():
        tokens = nets.tower_of(path).bfloat16()(torch.from_numpy(pixels)[None].bfloat16())[0]
        w = nets.Weights(path)
        first, second = (nets.linear(w, f"mm.{i}").bfloat16() for i in (0, 2))
        image = second(F.gelu(first(tokens)))
    ids = tensors["input_ids"].astype(np.int64)
    (at,) = np.flatnonzero(ids < 0)

    def rows(net):
        before, after = (net.embed(torch.from_numpy(part)) for part in (ids[:at], ids[at + 1:]))
        return torch.cat((before, image, after))

    return tokens.float().numpy(), torch_decoder(path, rows)


# ---- tables ----


def write(name, head, rows):
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    table = f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- end of {name} -->"
    text = DOCUMENT.read_text()
    DOCUMENT.write_text(re.sub(f"<!-- {name} -->.*?<!-- end of {name} -->", lambda _: table, text, flags=re.S))
    print(table)


def classes(args, engine):
    names, columns = [], []
    for name, path in (model.split("=", 1) for model in args.models):
        want = engine.see(path, "f32")
        runs = [(p, engine.see(path, p)) for p in CLASSES]
        got = [(p, r["vision_tokens"], r["logits"]) for p, r in runs] + [("PyTorch bf16", *torch_sees(path, want))]
        names += [f"{name}: vision tokens", "logits", "same top token"]
        columns.append({system: [f"{error(tokens, want['vision_tokens']):.1e}", f"{error(logits, want['logits']):.1e}",
                                 SHARE % same_top(logits, want["logits"])] for system, tokens, logits in got})
    rows = [[system, *(cell for c in columns for cell in c[system])] for system in columns[0]]
    write("classes", ["", *names], rows)


def blocks(args, engine):
    rows = []
    ids = engine.dump(args.model, "f32", "-p", TEXT)["input_ids"]
    exact = engine.read(args.model, "f32")
    for kind in BLOCKS:
        path = engine.quantized(args.model, kind)
        stored, int8 = engine.read(path, "f32"), engine.read(path, "int8")
        torch = torch_reads(path, ids)
        rows.append([kind.upper(), *(f"{e:.1e}" for e in (error(stored, exact), error(int8, stored), error(torch, stored),
                                                          error(int8, exact))), SHARE % same_top(int8, stored)])
        path.unlink()
    write("blocks", ["weights", "what rounding the weights costs", "int8 activations", "PyTorch bf16", "weights and activations",
                     "same top token"], rows)


def normalise(text):
    return text.strip().lower().rstrip(".").strip()


def answer(args, engine, questions, model, precision):
    out = engine.folder / "answers.jsonl"
    images = [o for tar in sorted(pathlib.Path(args.data).glob("*/*.tar")) for o in ("--images", tar)]
    command = [args.bin, "eval", questions, *images, "-m", model, "--precision", precision, "--answers", out, "--threads", args.threads]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    return [normalise(json.loads(line)["answer"]) for line in out.read_text().splitlines()]


def answers(args, engine):
    lines = (pathlib.Path(args.data) / "eval-v1.jsonl").read_text().splitlines()[::args.every]
    questions = [json.loads(line) for line in lines]
    asked = engine.folder / "questions.jsonl"
    asked.write_text("\n".join(lines))
    models = [("f32", BUNDLED, "f32"), ("auto", BUNDLED, "auto")]
    models += [(f"{path.stem} in f32", path, "f32") for path in args.beside]
    given = {name: answer(args, engine, asked, path, precision) for name, path, precision in models}
    pairs = [(a, b) for i, a in enumerate(given) for b in list(given)[i + 1:]]
    sources = [("all", len(questions)), *sorted(collections.Counter(q["source"] for q in questions).items())]
    rows = []
    for source, n in sources:
        of = [i for i, q in enumerate(questions) if source in ("all", q["source"])]
        same = [[given[a][i] == given[b][i] for i in of] for a, b in pairs]
        right = [[given[name][i] in map(normalise, questions[i]["answers"]) for i in of] for name in given]
        rows.append([source, str(n), *(SHARE % (100 * np.mean(share)) for share in (*same, *right))])
    head = [f"{a} and {b} the same" for a, b in pairs] + [f"{name} right" for name in given]
    write("answers", ["source", "questions", *head], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "build" / "tinyvlm"))
    parser.add_argument("--threads", type=int, default=1)
    tables = parser.add_subparsers(required=True)
    p = tables.add_parser("classes")
    p.add_argument("models", nargs="+", metavar="NAME=FASTVLM.gguf")
    p.set_defaults(run=classes)
    p = tables.add_parser("blocks")
    p.add_argument("model")
    p.set_defaults(run=blocks)
    p = tables.add_parser("answers")
    p.add_argument("data", help="the data folder")
    p.add_argument("--beside", type=pathlib.Path, nargs="*", default=[], help="other model files, run in float32")
    p.add_argument("--every", type=int, default=1, help="ask one question in so many")
    p.set_defaults(run=answers)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        args.run(args, Engine(args, folder))


if __name__ == "__main__":
    main()
