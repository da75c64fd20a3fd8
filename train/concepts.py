"""What a network may name: ImageNet's classes in everyday words and those of the detector; which of them a picture shows and which a
sentence names. The token of names (model.Naming) is the same for both, so the decoder learns from sentences without pictures to speak of
things that hardly any training picture shows."""

import collections
import functools

import numpy as np
import torch
import torch.nn.functional as F

import train.classes as classes
import train.facts as facts
import train.heads as heads
import train.model as model
import train.names as names
import train.tower as tower

NOISE, NOISES = 0.3, 3  # the most of a thing that a sentence did not say, and how many: a network is never sure
RARELY, NEVER = -6.0, -30.0  # logits of a name before it is learnt, and of none
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
    """labels: ImageNet's classes in order, or none; called: the network's names."""

    def __init__(self, called, labels):
        self.names, at = list(called), {name: i for i, name in enumerate(called)}
        called_so = [(c, at[n]) for c, n in enumerate(names.everyday(labels)) if n in at]
        self.classes, self.of_class = (np.array(x, np.int64) for x in zip(*called_so)) if called_so else ([], [])
        self.of_coco = [at[n] for n in classes.NAMES]
        self.phrases = {word: at[name] for name, said in SAID.items() if name in at for word in said.split()}
        for name, i in at.items():
            spelled = " ".join(facts.words(name))
            self.phrases |= {spelled: i, spelled + "s": i}
        self.said = functools.cache(self.said)  # of a sentence it is asked several times

    def shown(self, imagenet, pictures):
        """imagenet [b][1000] of the tower's classifier, the pictures -> [b][names] in 0..1, NaN where nothing is known: people's word
        or the detector's, else the classifier's."""
        out = np.full((len(pictures), len(self.names)), np.nan, np.float32)
        if len(self.classes):
            out[:, self.of_class] = 0
            np.add.at(out.T, self.of_class, np.asarray(imagenet, np.float32)[:, self.classes].T)
        for row, p in zip(out, pictures):
            labels = heads.soft_labels(p)
            row[self.of_coco] = np.where(np.isnan(labels), row[self.of_coco], labels)
        return np.minimum(out, 1)

    def said(self, sentence):
        """Things that a sentence names, the longest names first."""
        words, out, i = facts.words(sentence), set(), 0
        while i < len(words):
            n, found = next(((n, self.phrases[p]) for n in (4, 3, 2, 1) for p in [" ".join(words[i:i + n])] if p in self.phrases), (1, None))
            if found is not None:
                out.add(found)
            i += n
        return sorted(out)

    def rarity(self, sentences):
        """Weights to draw sentences by: those that name what few others do come oftener, as the square root."""
        said = [self.said(s) for s in sentences]
        often = collections.Counter(i for things in said for i in things)
        return [max(often[i] ** -0.5 for i in things) for things in said]

    def heard(self, sentence, rng):
        """[names] in 0..1 as a picture of what a sentence says might have them."""
        out = torch.zeros(len(self.names))
        for _ in range(NOISES):
            out[rng.randrange(len(self.names))] = NOISE * rng.random()
        for i in self.said(sentence):
            out[i] = rng.uniform(NOISE, 1.0)
        return out


def everything(labels):
    """All names, in order; labels: ImageNet's classes, or none."""
    return sorted(set(names.everyday(labels)) | set(classes.NAMES))


def naming(called, labels, tokenizer, embeddings):
    """-> a new model.Naming: directions of the embeddings [V][d] of the decoder; scores of ImageNet's classes as the tower's classifier has
    them, a group's mean, the others open."""
    out = model.Naming(called)
    means = torch.stack([embeddings[tokenizer.encode(" " + n).ids].mean(0) for n in called])
    classifier = tower.load()
    weight = classifier["classifier.weight"] - classifier["classifier.weight"].mean(0)
    members = {}
    for i, name in enumerate(names.everyday(labels)):
        members.setdefault(name, []).append(i)
    with torch.no_grad():
        out.embd.weight.zero_()
        out.embd.weight[:, :len(called)] = F.normalize(means - means.mean(0), dim=-1).T
        out.score.weight.zero_()
        out.score.bias.fill_(NEVER)
        for i, name in enumerate(called):
            found = members.get(name, [])
            out.score.bias[i] = RARELY
            if found:
                out.score.weight[i] = weight[found].mean(0)
    return out
