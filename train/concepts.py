"""A visual token in the language of the decoder: one of the pooled tokens is trained to point where the embeddings of the names of
what is seen point. What is seen say the tower's own classifier, which knows a thousand classes, and the detector. So a sentence can
stand for a picture too: its nouns give the token, and the decoder learns to speak of things that few training pictures show."""

import re

import numpy as np
import torch
import torch.nn.functional as F

import train.classes as classes
import train.facts as facts
import train.names as names

TOKEN = -1          # of the pooled ones
NOISE = 0.3         # most weight of each of NOISES things that a sentence did not say, as a classifier is never sure
NOISES = 3
SAID = {  # what people say for classes of the detector, beside their names and plurals in s
    "person": "man men woman women people boy boys girl girls child children kid kids guy guys lady ladies player players person persons "
              "baby toddler group crowd couple family skier skiers surfer surfers snowboarder skateboarder rider cyclist someone",
    "bicycle": "bike bikes", "motorcycle": "motorbike motorbikes motorcyclist", "airplane": "plane planes jet jets airplanes aircraft",
    "TV": "television televisions tv", "couch": "sofa sofas", "cell phone": "cellphone phone", "dining table": "table tables",
    "potted plant": "plant plants", "skis": "ski skis skiing skier skiers", "sports ball": "ball balls soccer football basketball volleyball",
    "snowboard": "snowboarding snowboarder", "skateboard": "skateboarder skateboarding", "surfboard": "surfer surfing surfers",
    "cup of coffee": "coffee cappuccino latte", "donut": "doughnut doughnuts", "refrigerator": "fridge", "teddy bear": "teddy", "wine glass": "wine", "hot dog": "hotdog hotdogs",
    "baseball bat": "bat baseball batter", "baseball glove": "mitt", "tennis racket": "racket racquet", "sheep": "lamb lambs", "cow": "cattle bull bulls",
    "horse": "horseback", "dog": "puppy puppies", "cat": "kitten kittens", "bus": "buses", "bench": "benches", "sandwich": "sandwiches",
    "book": "books", "knife": "knives", "giraffe": "giraffes", "traffic light": "traffic lights", "toilet": "urinal"}


class Concepts:
    """labels: ImageNet's classes in order, or none; embeddings [V][d] of the decoder, kept as they are now."""

    def __init__(self, labels, tokenizer, embeddings):
        everyday = names.everyday(labels) if labels else []
        self.names = sorted(set(everyday) | set(classes.NAMES))
        at = {name: i for i, name in enumerate(self.names)}
        self.of_class = np.array([at[n] for n in everyday], np.int64)
        self.of_coco = np.array([at[n] for n in classes.NAMES], np.int64)
        means = torch.stack([embeddings[tokenizer.encode(" " + n).ids].mean(0) for n in self.names])
        self.vectors = F.normalize(means - means.mean(0), dim=-1).detach()
        self.phrases = {}
        for name, i in at.items():
            self.phrases[name.lower()] = self.phrases[name.lower() + "s"] = i
        for name, said in SAID.items():
            self.phrases |= {word: at[name] for word in said.split() if name in at}

    def seen(self, imagenet, pictures):
        """imagenet [b][1000] of the tower's classifier, the pictures -> weights [b][names]"""
        out = torch.zeros(len(pictures), len(self.names))
        if len(self.of_class):
            out.index_add_(1, torch.from_numpy(self.of_class), imagenet.float().cpu())
        for row, p in zip(out, pictures):
            for c in np.flatnonzero(p.present() == 1):
                row[self.of_coco[c]] = 1.0 if c in p.labels else float(p.scores[c])
        return out

    def said(self, sentence):
        """Things that a sentence names, the longest names first."""
        words, out, i = facts.words(sentence), set(), 0
        while i < len(words):
            n, found = next(((n, self.phrases[p]) for n in (3, 2, 1) for p in [" ".join(words[i:i + n])] if p in self.phrases), (1, None))
            if found is not None:
                out.add(found)
            i += n
        return sorted(out)

    def heard(self, sentence, rng):
        """Weights [names] as a picture of what a sentence says might have them."""
        out = torch.zeros(len(self.names))
        for _ in range(NOISES):
            out[rng.randrange(len(self.names))] += NOISE * rng.random()
        for i in self.said(sentence):
            out[i] += rng.uniform(0.3, 1.0)
        return out

    def pointing(self, weights):
        """weights [b][names] -> directions [b][d]"""
        return F.normalize(weights @ self.vectors.to(weights.device), dim=-1)

    def loss(self, visual, weights):
        return (1 - F.cosine_similarity(visual[:, TOKEN].float(), self.pointing(weights.to(visual.device)), dim=-1)).mean()

    def visual(self, weights, like):
        """Tokens [b][32][d] of sentences: the one token, as long as those of pictures (like [i][32][d]), the others zero."""
        out = like.new_zeros(len(weights), *like.shape[1:])
        out[:, TOKEN] = (self.pointing(weights.to(like.device)) * like[:, TOKEN].float().norm(dim=-1).mean()).to(like.dtype)
        return out
