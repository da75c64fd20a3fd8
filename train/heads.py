"""Dense targets for the visual tokens: what the throw-away heads of model.Heads learn, and how rich the tokens are."""

import collections

import numpy as np
import torch
import torch.nn.functional as F

import train.classes as classes
import train.facts as facts
import train.model as model
import train.tower as tower

N_WORDS, MOST_PEOPLE = 1000, 5
SIZES = {"labels": len(classes.NAMES), "words": N_WORDS, "people": MOST_PEOPLE + 1, "imagenet": tower.N_CLASSES}
WEIGHT = {"labels": 1.0, "words": 0.15, "people": 1.0, "imagenet": 0.5}


class Targets:
    """Rows of targets by picture index of a deck; NaN where nothing is known."""

    def __init__(self, pictures):
        vocabulary = common_words(pictures)
        self.labels = np.stack([soft_labels(p) for p in pictures])
        self.words = np.stack([word_targets(p, vocabulary) for p in pictures])
        self.people = np.array([np.nan if p.people is None else min(p.people, MOST_PEOPLE) for p in pictures],
                               np.float32)

    def loss(self, out, index, imagenet):
        """out: what Heads gives for the pictures [index], imagenet: what the tower's classifier said of them
        -> {name: loss}, WEIGHT applied."""
        losses = {
            "labels": known_bce(out["labels"], self.labels[index]),
            "words": known_bce(out["words"], self.words[index]),
            "people": known_cross_entropy(out["people"], self.people[index]),
            "imagenet": F.cross_entropy(out["imagenet"], imagenet)}
        return {name: WEIGHT[name] * loss for name, loss in losses.items()}


def common_words(pictures):
    count = collections.Counter(w for p in pictures for c in p.captions for w in facts.words(c))
    return {w: i for i, (w, _) in enumerate(count.most_common(N_WORDS))}


def soft_labels(picture):
    """[80] in 0..1: the detector's score between sure no and sure yes; people's answers win."""
    if picture.scores is None and not picture.labels:
        return np.full(len(classes.NAMES), np.nan, np.float32)
    out = np.full(len(classes.NAMES), np.nan, np.float32)
    if picture.scores is not None:
        out = np.clip((picture.scores - facts.SURE_NO) / (facts.SURE_YES - facts.SURE_NO), 0, 1)
    for c, yes in picture.labels.items():
        out[c] = yes
    return out.astype(np.float32)


def word_targets(picture, vocabulary):
    """[1000]: 1 for a word of two captions, 1/2 for one of one caption."""
    if len(picture.captions) < 3:
        return np.full(N_WORDS, np.nan, np.float32)
    out = np.zeros(N_WORDS, np.float32)
    for caption in picture.captions:
        for w in set(facts.words(caption)) & vocabulary.keys():
            out[vocabulary[w]] += 0.5
    return np.minimum(out, 1.0)


def known_bce(logits, target):
    """Summed over classes, mean over pictures."""
    target = torch.from_numpy(target).to(logits.device)
    known = ~target.isnan()
    loss = F.binary_cross_entropy_with_logits(logits, target.nan_to_num(), reduction="none")
    return (loss * known).sum() / max(1, int(known.any(1).sum()))


def known_cross_entropy(logits, target):
    target = torch.from_numpy(target).to(logits.device)
    known = ~target.isnan()
    if not known.any():
        return logits.sum() * 0
    return F.cross_entropy(logits[known], target[known].long())


@torch.no_grad()
def effective_rank(tokens):
    """exp of the entropy of the singular values of centred tokens [n][d]."""
    s = torch.linalg.svdvals((tokens - tokens.mean(0)).double())
    p = s / s.sum()
    return float(torch.exp(-(p * torch.log(p + 1e-12)).sum()))


@torch.no_grad()
def probe(net, heads, features, pictures, batch=32):
    """-> (effective rank of the tokens, balanced accuracy of the label head against people's answers)."""
    asked = [p for p in pictures if p.labels and p.key in features.index]
    tokens, right = [], {True: [], False: []}
    for i in range(0, len(asked), batch):
        part = asked[i:i + batch]
        visual = net.see(features.get([p.key for p in part])[0])
        tokens.append(visual.flatten(0, 1)[::4])
        for p, logits in zip(part, heads(visual[:, :model.N_QUERY])["labels"]):
            for c, yes in p.labels.items():
                right[yes].append(bool(logits[c] > 0) == yes)
    accuracy = sum(sum(r) / max(1, len(r)) for r in right.values()) / 2
    return effective_rank(torch.cat(tokens)), accuracy
