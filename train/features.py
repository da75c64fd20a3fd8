"""Caches the frozen tower's two maps for every picture, float16, so that an epoch reads no JPEG.

  python features.py --root DATA --data all --out DIR
DIR/{hi.f16,lo.f16,keys.json}: hi [n][49][1280], lo [n][196][112]."""

import argparse
import io
import json
import os

import numpy as np
import torch
from PIL import Image

import data
import tower


class Features:
    """A cache opened for reading; rows are float16 views."""

    def __init__(self, path):
        with open(os.path.join(path, "keys.json"), encoding="utf-8") as f:
            self.index = {k: i for i, k in enumerate(json.load(f))}
        n = len(self.index)
        self.hi = np.memmap(os.path.join(path, "hi.f16"), np.float16, "r", shape=(n, tower.N_HI, tower.C_HI))
        self.lo = np.memmap(os.path.join(path, "lo.f16"), np.float16, "r", shape=(n, tower.N_LO, tower.C_LO))

    def get(self, keys):
        """-> hi [b][49][1280], lo [b][196][112] as torch float32."""
        i = [self.index[k] for k in keys]
        return (torch.from_numpy(self.hi[i].astype(np.float32)),
                torch.from_numpy(self.lo[i].astype(np.float32)))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--root", required=True)
    p.add_argument("--data", choices=data.GROUPS, default="all")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    os.makedirs(args.out, exist_ok=True)
    w = {k: (v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v)
         for k, v in tower.load().items()}
    keys, batch = [], []
    with open(os.path.join(args.out, "hi.f16"), "wb") as hi_file, \
         open(os.path.join(args.out, "lo.f16"), "wb") as lo_file, torch.inference_mode():
        def flush():
            x = tower.normalise(np.stack(batch)).permute(0, 3, 1, 2)  # NHWC memory = channels last
            lo, hi = tower.forward(w, x)
            hi_file.write(hi.half().contiguous().numpy().tobytes())
            lo_file.write(lo.half().contiguous().numpy().tobytes())
            batch.clear()

        for key, jpeg in data.pictures(args.root, args.data):
            batch.append(tower.pixels(Image.open(io.BytesIO(jpeg))))
            keys.append(key)
            if len(batch) == 64:
                flush()
                if len(keys) % 1024 == 0:
                    print(len(keys), "pictures", flush=True)
        if batch:
            flush()
    with open(os.path.join(args.out, "keys.json"), "w", encoding="utf-8") as f:
        json.dump(keys, f)


if __name__ == "__main__":
    main()
