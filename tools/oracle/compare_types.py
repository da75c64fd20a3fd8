"""Sizes and errors of the weight types against float32, on one checkpoint and picture.

  python tools/oracle/compare_types.py build/tinyvlm CHECKPOINT IMAGE [TYPE...]

Converts CHECKPOINT to each type, dumps the same prompt and prints the relative L2 error of the visual
tokens and of the logits, and whether every logit is finite. Needs numpy and safetensors."""

import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file


def run(binary, checkpoint, image, kind, folder):
    model, out = os.path.join(folder, kind + ".gguf"), os.path.join(folder, kind + ".safetensors")
    subprocess.run([binary, "convert", checkpoint, model, "--type", kind, "--quiet"], check=True)
    subprocess.run([binary, "dump", "-m", model, "--image", image, "-p", "Describe the image.",
                    "--new-tokens", "0", "-o", out, "--quiet"], check=True)
    size = os.path.getsize(model)
    os.remove(model)
    return size, load_file(out)


def main():
    binary, checkpoint, image = sys.argv[1:4]
    kinds = sys.argv[4:] or ["f16", "bf16", "q8_0", "q4_0"]
    with tempfile.TemporaryDirectory() as folder:
        base_size, base = run(binary, checkpoint, image, "f32", folder)
        print(f"f32   {base_size / 1e6:8.1f} MB  finite {np.isfinite(base['logits']).all()}")
        for kind in kinds:
            size, got = run(binary, checkpoint, image, kind, folder)
            errors = [np.linalg.norm(got[k] - base[k]) / np.linalg.norm(base[k]) for k in ("bridge_out", "logits")]
            print(f"{kind:5s} {size / 1e6:8.1f} MB  visual tokens {errors[0]:.1e}  logits {errors[1]:.1e}  "
                  f"finite {np.isfinite(got['logits']).all()}")


if __name__ == "__main__":
    main()
