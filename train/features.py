"""What the part of the tower that stays as it is makes of every picture, float16, so that an epoch reads no JPEG: the map of
its block TAP, and what its own classifier says. Of training pictures also those of other views: mirrored, cut."""

import io
import math
import os
import random

import numpy as np
import torch
from PIL import Image

import train.corpus as corpus
import train.tower as tower

BATCH = 64
LEAST_CUT = 0.7  # of a picture's width and height; more would cut off what captions and counts speak of


class Features:
    """A folder: lo.f16 [n][196][112], classes.f16 [n][1000], keys.txt, a key a line. The first line of a key is the
    picture as it is, the others are views of it."""

    def __init__(self, path):
        with open(os.path.join(path, "keys.txt"), encoding="utf-8") as f:
            keys = f.read().splitlines()
        shapes = {"lo.f16": (tower.N_LO, tower.C_LO), "classes.f16": (tower.N_CLASSES,)}
        sizes = [os.path.getsize(os.path.join(path, name)) // (2 * math.prod(shape)) for name, shape in shapes.items()]
        n = min(len(keys), *sizes)  # a file still being written ends anywhere
        self.index = {}  # key -> its rows
        for i, key in enumerate(keys[:n]):
            self.index.setdefault(key, []).append(i)
        self.lo, self.classes = (np.memmap(os.path.join(path, name), np.float16, "r", shape=(n, *shape))
                                 for name, shape in shapes.items())

    def get(self, keys, rng=None):
        """-> lo [b][196][112], classes [b][1000] as torch float32; with an rng, of any view."""
        i = [rng.choice(self.index[k]) if rng else self.index[k][0] for k in keys]
        return tuple(torch.from_numpy(x[i].astype(np.float32)) for x in (self.lo, self.classes))


def batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def view(image, rng):
    """Mirrored at every other draw, and at least LEAST_CUT of each side of it."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    w, h = (round(side * rng.uniform(LEAST_CUT, 1)) for side in image.size)
    x, y = rng.randint(0, image.width - w), rng.randint(0, image.height - h)
    return image.crop((x, y, x + w, y + h))


def views(key, jpeg, n):
    """The picture as it is, mirrored, and n - 2 other views of it, as pixels of the tower's size."""
    image, rng = Image.open(io.BytesIO(jpeg)).convert("RGB"), random.Random("view " + key)
    out = [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)] + [view(image, rng) for _ in range(n - 2)]
    return [(key, tower.pixels(v)) for v in out[:n]]


@torch.inference_mode()
def write(root, data, out, n_views=1, limit=None, device="cpu"):
    """The folder of all pictures that have a split, n_views of each training picture; about 60 a second on two idle cores."""
    os.makedirs(out, exist_ok=True)
    w = {k: (v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v).to(device)
         for k, v in tower.load().items()}
    splits = corpus.splits(root, data)
    wanted = (v for k, jpeg in corpus.pictures(root, data) if k in splits
              for v in views(k, jpeg, n_views if splits[k] == "train" else 1))
    done = 0
    with open(os.path.join(out, "lo.f16"), "wb") as lo_file, open(os.path.join(out, "classes.f16"), "wb") as classes_file, \
            open(os.path.join(out, "keys.txt"), "w", encoding="utf-8") as keys:
        for batch in batches(wanted, BATCH):
            x = tower.normalise(np.stack([pixels for _, pixels in batch]))
            lo, hi = tower.forward(w, x.to(device).permute(0, 3, 1, 2))  # NHWC memory: channels last
            for file, values in ((lo_file, lo), (classes_file, tower.classes(w, hi))):
                file.write(values.half().contiguous().cpu().numpy().tobytes())
            keys.writelines(key + "\n" for key, _ in batch)
            done += len(batch)
            if done % (16 * BATCH) == 0:
                print(done, "views", flush=True)
            if limit and done >= limit:
                return
