# SPDX-License-Identifier: MIT
"""The vision tower of a model as a Core ML program, for the Swift package's CoreMLTower. A FastVLM checkpoint becomes a
GGUF file first: `tinyvlm convert FOLDER MODEL.gguf --type f32`. Needs tools/coreml/requirements.txt."""

import argparse
import os
import sys


def arguments():
    p = argparse.ArgumentParser(prog="python -m tools.coreml", description=__doc__)
    p.add_argument("model", metavar="MODEL.gguf", help="Tiny-VLM or FastVLM; float weights give the closest program")
    p.add_argument("out", metavar="OUT.mlpackage", help="replaced if it is there, once the new one is whole")
    p.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16",
                   help="fp16 (default): what the Neural Engine computes in; int8: the same with weights of a byte; "
                        "FastVLM's last two stages stay float32 in both")
    p.add_argument("--sizes", metavar="S,S,...", type=lambda text: [int(s) for s in text.split(",")],
                   help="image sizes of an enumerated shape, the default first (FastVLM: 1024,512,256); else the model's one")
    p.add_argument("--for", dest="app_model", metavar="FILE.gguf",
                   help="the model that the app has, if another: MODEL.gguf quantised; the program carries its SHA-256")
    p.add_argument("--check", action="store_true",
                   help="run the saved program by an interpreter: its operations, and the error of its vision tokens beside the "
                        "tower in float32, for a picture of clouds at each size")
    return p.parse_args()


def size(path):
    return sum(os.path.getsize(os.path.join(folder, f)) for folder, _, files in os.walk(path) for f in files)


def check(args):
    import torch

    import tools.coreml.interpreter as interpreter
    import tools.coreml.towers as towers
    program = interpreter.Program(args.out)
    print("operations: " + ", ".join(f"{n} {name}" for name, n in program.histogram().items()))
    tower, file = towers.load(args.model)
    clouds = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    for side in args.sizes or [file.key("vision.image_size", int)]:
        pixels = torch.nn.functional.interpolate(clouds, (side, side), mode="bicubic").permute(0, 2, 3, 1).contiguous()
        with torch.inference_mode():
            print(f"{side} pixels a side: relative error {interpreter.error(program.run(pixels), tower(pixels)):.1e}")


def main():
    args = arguments()
    if not args.out.endswith(".mlpackage"):
        sys.exit(f"tools.coreml: '{args.out}': the name must end in .mlpackage")
    import tools.coreml.program as program
    import tools.coreml.towers as towers
    try:
        program.save(program.convert(args.model, args.precision, args.sizes, args.app_model), args.out)
    except (towers.Refused, OSError) as e:
        sys.exit(f"tools.coreml: {e}")
    print(f"{args.out}: {args.precision}, {size(args.out):,} bytes")
    if args.check:
        check(args)


if __name__ == "__main__":
    main()
