# SPDX-License-Identifier: MIT
"""What the engine answers when saved programs are its vision tower: each is run by the interpreter, its output goes through
tvlm_image_from_vision. Prints accuracy, and how many answers are the engine's own, which runs its own tower."""

import argparse
import io
import json
import tarfile

import numpy as np
import torch
from PIL import Image

from tools.coreml.engine import Engine
from tools.coreml.interpreter import Program


def arguments():
    p = argparse.ArgumentParser(prog="python -m tools.coreml.answers", description=__doc__)
    p.add_argument("model", metavar="MODEL.gguf")
    p.add_argument("programs", metavar="PROGRAM.mlpackage", nargs="+")
    p.add_argument("--library", required=True, help="libtinyvlm.so, or .dylib")
    p.add_argument("--rows", required=True, help="lines of {image, question, answers}")
    p.add_argument("--images", required=True, action="append", metavar="TAR")
    p.add_argument("--limit", type=int, default=200, help="rows, evenly out of all (default 200)")
    return p.parse_args()


def pictures(archives, names):
    """{name: u8 [h][w][3]}"""
    found = {}
    for path in archives:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name in names:
                    found[member.name] = np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))
    return found


def plain(text):
    """As `tinyvlm eval` compares."""
    return text.strip(" \t\r\n").rstrip(" \t\r\n.").lower()


def see(program, engine, picture):
    shape = list(program.spec.description.input[0].type.multiArrayType.shape)
    return program.run(torch.from_numpy(engine.preprocess(picture)).view(shape))[0].numpy()


def main():
    args = arguments()
    with open(args.rows, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    rows = rows[::max(1, len(rows) // args.limit)][:args.limit]
    images = pictures(args.images, {r["image"] for r in rows})
    rows = [r for r in rows if r["image"] in images]
    engine = Engine(args.library, args.model)

    def answers(encode):
        return [plain(engine.ask(encode(images[r["image"]]), r["question"])) for r in rows]

    def report(name, given):
        right = sum(a in map(plain, r["answers"]) for a, r in zip(given, rows, strict=True))
        same = sum(a == b for a, b in zip(given, own, strict=True))
        print(f"{name}: {right} of {len(rows)} right ({100 * right / len(rows):.1f}%), {same} as the engine's own", flush=True)

    own = answers(engine.encode)
    report("the engine's own tower", own)
    for path in args.programs:
        program = Program(path)
        report(path, answers(lambda picture, p=program: engine.from_vision(see(p, engine, picture), picture)))


if __name__ == "__main__":
    main()
