"""The frozen tower's two maps of every picture, float16, so that an epoch reads no JPEG."""

import io
import os

import numpy as np
import torch
from PIL import Image

import train.corpus as corpus
import train.tower as tower

BATCH = 64


class Features:
    """A folder of maps: hi.f16 [n][49][1280], lo.f16 [n][196][112], keys.txt, a key a line."""

    def __init__(self, path):
        with open(os.path.join(path, "keys.txt"), encoding="utf-8") as f:
            keys = f.read().splitlines()
        sizes = [os.path.getsize(os.path.join(path, name)) // (2 * n * c) for name, n, c in
                 (("hi.f16", tower.N_HI, tower.C_HI), ("lo.f16", tower.N_LO, tower.C_LO))]
        n = min(len(keys), *sizes)  # a file still being written ends anywhere
        self.index = {k: i for i, k in enumerate(keys[:n])}
        self.hi = np.memmap(os.path.join(path, "hi.f16"), np.float16, "r", shape=(n, tower.N_HI, tower.C_HI))
        self.lo = np.memmap(os.path.join(path, "lo.f16"), np.float16, "r", shape=(n, tower.N_LO, tower.C_LO))

    def get(self, keys):
        """-> hi [b][49][1280], lo [b][196][112] as torch float32."""
        i = [self.index[k] for k in keys]
        return (torch.from_numpy(self.hi[i].astype(np.float32)),
                torch.from_numpy(self.lo[i].astype(np.float32)))


def batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def write(root, data, out, limit=None, device="cpu"):
    """The maps of all pictures that have a split, about 60 a second on two idle cores."""
    os.makedirs(out, exist_ok=True)
    w = {k: (v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v).to(device)
         for k, v in tower.load().items()}
    splits = corpus.splits(root, data)
    wanted = ((k, jpeg) for k, jpeg in corpus.pictures(root, data) if k in splits)
    done = 0
    with open(os.path.join(out, "hi.f16"), "wb") as hi_file, open(os.path.join(out, "lo.f16"), "wb") as lo_file, \
            open(os.path.join(out, "keys.txt"), "w", encoding="utf-8") as keys:
        for batch in batches(wanted, BATCH):
            x = tower.normalise(np.stack([tower.pixels(Image.open(io.BytesIO(jpeg))) for _, jpeg in batch]))
            lo, hi = tower.forward(w, x.to(device).permute(0, 3, 1, 2))  # NHWC memory: channels last
            for file, maps in ((hi_file, hi), (lo_file, lo)):
                file.write(maps.half().contiguous().cpu().numpy().tobytes())
            keys.writelines(key + "\n" for key, _ in batch)
            done += len(batch)
            if done % (16 * BATCH) == 0:
                print(done, "pictures", flush=True)
            if limit and done >= limit:
                return
