"""A card is what one visit to a picture teaches: some captions, yes/no questions, other questions.

Draws depend on (seed, epoch, picture) alone, so a run that was cut off goes on with the same cards."""

import collections
import math
import random

import numpy as np

import train.classes as classes
import train.wording as wording

VISIT = {"flickr8k": 1.0, "coco": 1.0, "coco_ccby": 1.0, "daquar": 0.3, "imagenet1k_sample": 2.0,
         "tf_flowers": 0.15, "trashnet": 0.1, "clothing": 0.15}  # of a picture in an epoch; many of few kinds would be said of anything
VISITS_OF_A_CLASS = 8  # at most, of one that the sample has many pictures of: a hundred breeds of dogs are dogs
CAPTIONS, YES_NO, OTHERS = 2, 4, 2  # rows a card: YES_NO of each side
OBJECTS_SHARE, ODD_SHARE = 0.25, 0.25
STRANGE, MOST_COMPANY = 0.25, 8.0  # weights of denying what never comes with a picture's things, and what comes with them most
BALANCE = 0.5  # 0: answers as frequent as in the data, 1: equally frequent


class Deck:
    """All pictures, and the weights that balance their questions."""

    def __init__(self, pictures):
        self.pictures = [pictures[k] for k in sorted(pictures)]
        self.present = np.stack([p.present() for p in self.pictures])
        self.yes, self.no, self.keep = presence_weights(self.present)  # [80], [n][80], [80]
        self.fact_weight = answer_weights(self.pictures)
        self.visit = visits(self.pictures)

    def epoch(self, seed, epoch):
        """Indices of the pictures to visit, in order."""
        rng = random.Random(f"{seed} {epoch}")
        out = [i for i, share in enumerate(self.visit) for _ in range(int(share + rng.random()))]
        rng.shuffle(out)
        return out

    def card(self, index, seed, epoch, captions=True):
        """[(question, answer)] of a visit, with captions or without."""
        p, rng = self.pictures[index], random.Random(f"{seed} {epoch} {index}")
        rows = [(wording.draw(rng, wording.DESCRIBE), c)
                for c in rng.sample(p.captions, min(CAPTIONS, len(p.captions))) if captions]
        rows += self.named(index, rng) if captions else []
        if p.objects and rng.random() < (OBJECTS_SHARE if p.captions else 2 * OBJECTS_SHARE):
            rows.append((wording.draw(rng, wording.OBJECTS), p.objects))
        rows += self.presence(index, rng, YES_NO if p.captions else YES_NO + 1)
        rows += self.others(p, rng)
        if rng.random() < ODD_SHARE:
            rows.append(odd(rng))
        return rows

    def named(self, index, rng):
        """The one thing that a picture shows, if it is one."""
        p = self.pictures[index]
        return [(wording.draw(rng, wording.DESCRIBE[4:5] + wording.DESCRIBE), rng.choice(p.names))] if p.names else []

    def presence(self, index, rng, n):
        known = [np.flatnonzero(self.present[index] == value) for value in (0, 1)]
        yes = [c for c in choose(rng, known[1], self.yes[known[1]], n) if rng.random() < self.keep[c]]
        no = choose(rng, known[0], self.no[index, known[0]], max(1, len(yes)))
        rows = [ask_presence(rng, classes.NAMES[c], c in yes) for c in yes + no]
        for thing, yes in rng.sample(self.pictures[index].other_presence,
                                     min(1, len(self.pictures[index].other_presence))):
            rows.append(ask_presence(rng, thing, yes))
        return rows

    def others(self, p, rng):
        weights = np.array([self.fact_weight[signature(f)] for f in p.facts])
        return [ask(rng, p.facts[i]) for i in choose(rng, np.arange(len(p.facts)), weights, OTHERS)]


def choose(rng, items, weights, n):
    """n of the items without repeats, likelier by weight."""
    keys = [math.log(1.0 - rng.random()) / w for w in weights]  # Efraimidis and Spirakis 2006
    return [items[i] for i in sorted(range(len(items)), key=lambda i: -keys[i])[:n]]


def visits(pictures):
    """Times that an epoch sees each picture, on average."""
    alike = collections.Counter(tuple(p.names) for p in pictures if p.source == "imagenet1k_sample")
    return [min(VISIT.get(p.source, 1.0), VISITS_OF_A_CLASS / alike[tuple(p.names)] if p.source == "imagenet1k_sample" else 1.0)
            for p in pictures]


def presence_weights(present):
    """Weights of classes for yes and of pictures' classes for no draws: rare classes are asked more often, what mostly comes with
    the things of a picture is denied more often, and each class is denied about as often as it is affirmed (iterative
    proportional fitting); where too few pictures lack it, a part of its yes is dropped: the third result is the share to keep."""
    yes = 1.0 / np.sqrt((present == 1).sum(0) + 1.0)
    affirmed = expected(present == 1, yes)
    no, likely = np.ones_like(yes), STRANGE + company(present == 1)
    for _ in range(50):
        denied = expected(present == 0, no * likely)
        no *= np.minimum(4.0, (affirmed + 1e-6) / (denied + 1e-6))
        no /= no.mean()
    return yes / yes.mean(), no * likely, np.minimum(1.0, 1.3 * expected(present == 0, no * likely) / (affirmed + 1e-6))


def company(present):
    """[n][80] bool -> how much oftener each class is seen beside what a picture shows than elsewhere, 0 to MOST_COMPANY, the mean
    over the things it shows."""
    together = present.T.astype(np.float64) @ present
    often = np.diag(together).copy()
    lift = together * len(present) / (np.outer(often, often) + 1.0)
    return np.minimum(MOST_COMPANY, present @ lift / np.maximum(1, present.sum(1, keepdims=True)))


def expected(allowed, weights):
    """Expected draws of each class when every picture draws one of its allowed classes by weight."""
    share = allowed * weights
    total = share.sum(1, keepdims=True)
    return (share / np.where(total > 0, total, 1)).sum(0)


def signature(fact):
    """What is balanced: the answer among those of its task (counts: of its thing too)."""
    return (fact.task, fact.thing if fact.task == "count" else "", fact.answer)


def answer_weights(pictures):
    count = collections.Counter(signature(f) for p in pictures for f in p.facts)
    most = {}
    for (task, thing, _), n in count.items():
        most[task, thing] = max(n, most.get((task, thing), 0))
    base = {"colour": 2.0, "asked": 0.5, "setting": 0.5}
    return {s: base.get(s[0], 1.0) * min(8.0, (most[s[:2]] / n) ** (BALANCE if s[0] != "asked" else 0.0))
            for s, n in count.items()}


def ask_presence(rng, thing, yes):
    be = "Are" if thing in classes.PLURAL_ONLY else "Is"
    return (wording.draw(rng, wording.PRESENCE, be=be, thing=classes.with_article(thing)), "yes" if yes else "no")


def ask(rng, fact):
    if fact.task == "asked":
        return wording.careless(rng, fact.thing), fact.answer
    if fact.task == "setting":
        kind = rng.random()
        if kind < 0.6:
            return wording.draw(rng, wording.SETTING), fact.answer
        wordings, yes = (wording.INDOORS, "indoors") if kind < 0.8 else (wording.OUTDOORS, "outdoors")
        return wording.draw(rng, wordings), "yes" if fact.answer == yes else "no"
    wordings = {"count": wording.COUNT, "colour": wording.COLOUR, "doing": wording.DOING,
                "where": wording.WHERE, "kind": wording.KIND}[fact.task]
    return wording.draw(rng, wordings, thing=fact.thing), fact.answer


def odd(rng):
    """What a picture cannot answer, or the model cannot read."""
    wordings, answer = rng.choice([(wording.READ, wording.CANT_READ), (wording.UNKNOWABLE, wording.CANT_TELL),
                                   (wording.GREETING, wording.HELLO)])
    return wording.careless(rng, rng.choice(wordings)), answer
