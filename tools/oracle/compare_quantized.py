"""Sizes and divergence of a Tiny-VLM file's weight types from float32, over the answers it gives.

  python tools/oracle/compare_quantized.py build/tinyvlm F32.gguf CALIBRATION-DIR PICTURE...

Each picture is described by the float32 file; every other file reads the same answer, and its next-token
distributions are compared: mean KL divergence, share of positions with the same top token. Needs numpy and
safetensors."""

import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

KINDS = {"f16": ["f16"], "bf16": ["bf16"], "q8_0": ["q8_0"], "q8_0 + int8 tower": ["int8", "--decoder", "q8_0"],
         "q4_0": ["q4_0"], "q4_0 + int8 tower": ["int8", "--decoder", "q4_0"]}


def run(*args, text=None):
    return subprocess.run(args, check=True, capture_output=True, text=True, input=text).stdout


def dump(binary, model, picture, prompt, folder, *options):
    out = os.path.join(folder, "dump.safetensors")
    run(binary, "dump", "-m", model, "--image", picture, "-p", prompt, "-o", out, "--quiet", *options)
    return load_file(out)


def log_softmax(x):
    x = x.astype(np.float64) - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def read_answers(binary, model, pictures, folder):
    """(picture, conversation as text, first answer position, log-probabilities) of the float32 file."""
    for picture in pictures:
        first = dump(binary, model, picture, "Describe the image.", folder, "--new-tokens", "32")
        prompt, answer = first["input_ids"].tolist(), first["generated_ids"].tolist()
        end = prompt[-1]  # the mark that ends a turn
        answer = answer[:answer.index(end)] if end in answer else answer
        ids = " ".join(map(str, prompt + answer))
        text = run(binary, "tokenize", "--decode", "-m", model, "-", text=ids)
        yield picture, text, len(prompt) - 1, read(binary, model, picture, text, len(prompt) - 1, folder)


def read(binary, model, picture, text, start, folder):
    got = dump(binary, model, picture, text, folder, "--prompt-raw", "--new-tokens", "0")
    return log_softmax(got["logits"][start:])


def main():
    binary, base, calibration = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as folder:
        answers = list(read_answers(binary, base, sys.argv[4:], folder))
        count = sum(len(a[3]) for a in answers)
        print(f"{count} positions of {len(answers)} answers\n{'f32':20s} {os.path.getsize(base) / 1e6:7.1f} MB")
        for name, kind in KINDS.items():
            model = os.path.join(folder, "model.gguf")
            run(binary, "quantize", base, model, "--quiet", "--type", *kind,
                *(["--calibrate", calibration] if kind[0] == "int8" else []))
            divergence = same = 0
            for picture, text, start, want in answers:
                got = read(binary, model, picture, text, start, folder)
                divergence += (np.exp(want) * (want - got)).sum()
                same += (want.argmax(-1) == got.argmax(-1)).sum()
            print(f"{name:20s} {os.path.getsize(model) / 1e6:7.1f} MB  KL {divergence / count:.5f}  "
                  f"same top token {100 * same / count:.1f}%")


if __name__ == "__main__":
    main()
