"""What people say of pictures like one that nobody described: of the sentences without pictures those that name the same things,
and of these the ones that most others resemble."""

import collections
import math
import random

import numpy as np

import train.classes as classes
import train.facts as facts
import train.names as names

LEAST, MOST, KEPT = 12, 200, 5  # sentences alike: to say anything, to compare, to keep
LONGEST = 14                    # words
PERSON = classes.INDEX["person"]
MANY = set("men women people boys girls children kids guys ladies players two three four five several group crowd couple family skiers surfers".split())


def terms(sentence):
    w = facts.words(sentence)
    return collections.Counter(w + list(zip(w, w[1:])))


def typical(sentences, rng):
    """The KEPT that are most like the others, by cosine of their weighted words and pairs."""
    sentences = rng.sample(sentences, min(MOST, len(sentences)))
    counts = [terms(s) for s in sentences]
    often = collections.Counter(t for c in counts for t in c)
    index = {t: i for i, t in enumerate(often)}
    x = np.zeros((len(counts), len(index)), np.float32)
    for row, c in zip(x, counts):
        for t, n in c.items():
            row[index[t]] = n * math.log(len(counts) / often[t] + 0.1)
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-6
    near = (x @ x.T).sum(1)
    return [facts.sentence(sentences[i]) for i in np.argsort(-near)[:KEPT]]


class Retold:
    def __init__(self, sentences, concepts):
        """Sentences by the detector's classes that they name, and by whether of several people."""
        coco = {c: i for i, c in enumerate(concepts.of_coco)}
        self.by_things, self.found = collections.defaultdict(list), {}
        for s in sentences:
            if len(facts.words(s)) <= LONGEST:
                things = frozenset(coco[c] for c in concepts.said(s) if c in coco)
                self.by_things[things, PERSON in things and bool(MANY & set(facts.words(s)))].append(s)

    def of(self, picture):
        """Sentences that name the most of what a picture shows, and nothing else of the 80; [] if people say none such."""
        seen = frozenset(np.flatnonzero(picture.present() == 1).tolist())
        many = PERSON in seen and (picture.people or 1) > 1
        if (seen, many) not in self.found:
            weight = {c: picture.scores[c] if picture.scores is not None else 1.0 for c in seen}
            fitting = [(sum(weight[c] for c in things), len(found), key) for key, found in self.by_things.items()
                       for things in key[:1] if things and things <= seen and len(found) >= LEAST and key[1] == (many and PERSON in things)]
            best = max(fitting, key=lambda f: f[:2], default=None)
            self.found[seen, many] = typical(self.by_things[best[2]], random.Random(repr(sorted(seen)))) if best else []
        return self.found[seen, many]


def retell(pictures, sentences, concepts, labels):
    """Pictures of everyday scenes that nobody described get such sentences for a name; those of one class each, labels {key: class},
    its name in everyday words."""
    retold = Retold(sentences, concepts)
    called = dict(zip(labels, names.everyday(labels.values())))
    for p in pictures:
        if p.key in called:
            p.names = [facts.sentence(names.phrase(called[p.key]))]
        elif not p.captions and not p.names and p.scores is not None:
            p.names = retold.of(p)
