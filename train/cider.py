"""CIDEr-D of a caption against those of people (Vedantam, Zitnick and Parikh, arXiv:1411.5726, section 4 and its -D form), as a
reward. `tinyvlm eval` measures it for the record; here a caption's end counts as a word, or half sentences pay
(Luo et al., arXiv:1803.04376)."""

import collections
import math

import train.facts as facts

N, SIGMA = 4, 6.0
END = "."


def ngrams(words):
    return collections.Counter(tuple(words[i:i + n]) for n in range(1, N + 1) for i in range(len(words) - n + 1))


class Reward:
    """Document frequencies are those of the pictures' captions."""

    def __init__(self, pictures, end=(END,)):
        captioned, self.end = [p for p in pictures if p.captions], list(end)
        self.frequency = collections.Counter(
            g for p in captioned for g in set().union(*(ngrams(self.ended(c)) for c in p.captions)))
        self.documents = math.log(max(1, len(captioned)))
        self.known = {}

    def ended(self, text):
        return facts.words(text) + self.end

    def vector(self, words):
        """-> ({n-gram: weight} and norm for each n, length)"""
        weights = [{} for _ in range(N)]
        for gram, count in ngrams(words).items():
            weights[len(gram) - 1][gram] = count * (self.documents - math.log(max(1, self.frequency[gram])))
        return weights, [math.sqrt(sum(v * v for v in w.values())) for w in weights], len(words)

    def references(self, picture):
        if picture.key not in self.known:
            self.known[picture.key] = [self.vector(self.ended(c)) for c in picture.captions]
        return self.known[picture.key]

    def __call__(self, words, picture):
        mine = self.vector(words)
        return 10 * sum(similarity(mine, other) for other in self.references(picture)) / len(picture.captions)


def similarity(mine, other):
    (a, a_norms, a_length), (b, b_norms, b_length) = mine, other
    total = 0.0
    for n in range(N):
        if a_norms[n] and b_norms[n]:
            total += sum(min(v, b[n][g]) * b[n][g] for g, v in a[n].items() if g in b[n]) / (a_norms[n] * b_norms[n])
    return total / N * math.exp(-(a_length - b_length) ** 2 / (2 * SIGMA ** 2))
