"""python -m train COMMAND ...: one command per stage; `python -m train COMMAND --help` has the options."""

import argparse
import os

import torch

import train.corpus as corpus
import train.curves as curves
import train.evaluate as evaluate
import train.features as features
import train.gguf_file as gguf_file
import train.model as model
import train.stages as stages
import train.starts as starts
import train.wording as wording


def add_features(commands):
    p = commands.add_parser("features", help="cache the tower's maps of all pictures")
    p.add_argument("--views", type=int, default=1, help="of each training picture: itself, mirrored, cut at random")
    p.add_argument("--limit", type=int, help="stop after so many views")
    p.set_defaults(run=lambda a: features.write(a.root, a.data, a.out, a.views, a.limit, a.device))
    p.add_argument("--out", required=True)
    return p


def add_stage(commands, name):
    p = commands.add_parser(name, help=f"the stage {name}, resumed where it stopped")
    p.add_argument("--run", required=True, dest="folder", help="folder of checkpoints and logs")
    p.add_argument("--features", required=True)
    p.add_argument("--start", default="smollm2", help="first weights: smollm2 or a GGUF file of ours")
    p.add_argument("--fresh-bridge", action="store_true", help="with a GGUF file: its decoder, a new bridge")
    p.add_argument("--variant", choices=model.VARIANTS, default="25m")
    length = p.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="training time, saving and reading not counted")
    length.add_argument("--steps", type=int, help="the same in steps")
    p.add_argument("--batch", type=int, default=16, help="pictures a step")
    p.add_argument("--lr-scale", type=float, default=1.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--bf16", action="store_true", help="autocast; slower where the CPU has no bf16 arithmetic")
    p.add_argument("--save-minutes", type=float, default=5)
    p.add_argument("--log-steps", type=int, default=20)
    p.set_defaults(run=lambda a: run_stage(name, a))
    return p


def run_stage(name, args):
    os.makedirs(args.folder, exist_ok=True)
    torch.manual_seed(args.seed)
    vlm, tokens, merges = starts.weights(args)
    run = stages.Run(args.folder, name, args, vlm, tokens, merges, features.Features(args.features))
    run.start()
    run.train()


def add_export(commands):
    p = commands.add_parser("export", help="write a checkpoint as a float32 GGUF file")
    p.add_argument("checkpoint")
    p.add_argument("out")
    p.add_argument("--average", metavar="GGUF", help="weights to mix in: those that the run started from")
    p.add_argument("--share", type=float, default=0.7, help="of the checkpoint in the average")
    p.set_defaults(run=export)
    return p


def export(args):
    vlm, tokens, *rest = stages.load(args.checkpoint)
    if args.average:
        other, others, _ = gguf_file.read(args.average)
        if others != tokens:
            raise SystemExit(f"export: {args.average} has another vocabulary")
        model.average(vlm, other, args.share)
    gguf_file.write(args.out, vlm, tokens, *rest)


def add_curves(commands):
    p = commands.add_parser("curves", help="draw the losses of a run as an SVG")
    p.add_argument("folder")
    p.add_argument("out")
    p.set_defaults(run=lambda a: curves.draw(a.folder, a.out))
    return p


def add_evaluate(commands):
    p = commands.add_parser("evaluate", help="accuracy and captions of a model file in the C engine")
    p.add_argument("--bin", default="build/tinyvlm")
    p.add_argument("--model", required=True)
    p.add_argument("--root", required=True)
    p.add_argument("--threads", type=int, default=os.cpu_count(), help="of the engine")
    p.add_argument("--precision", default="auto", help="of the engine: auto, f32, int16, int8 or bf16")
    p.add_argument("--questions", default="eval-v1.jsonl", help="file under --root")
    p.add_argument("--limit", type=int, help="ask a sample of so many")
    p.add_argument("--captions", type=int, default=600, help="test pictures to describe")
    p.add_argument("--prompt", default=wording.DESCRIBE[0], help="the question that asks for a caption")
    p.add_argument("--shuffled", action="store_true", help="ask the questions of other pictures too")
    p.set_defaults(run=evaluate.run)
    return p


def main():
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for p in [add_features(commands)] + [add_stage(commands, name) for name in stages.ORDER]:
        p.add_argument("--root", required=True, help="the data folder")
        p.add_argument("--data", choices=corpus.GROUPS, default="all")
        p.add_argument("--device", default="cpu", help="cpu or cuda")
    add_export(commands)
    add_evaluate(commands)
    add_curves(commands)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
