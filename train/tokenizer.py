"""Prunes SmolLM2's byte-level BPE to what a corpus needs.

Kept: the specials, the 256 byte tokens, and every token that a merge made on the way of encoding
the words that occur at least MIN_COUNT times. All merges done on the way are kept, the others
dropped: at each step the lowest-ranked applicable merge is the same as before, so those words get
the same pieces as with the full vocabulary, and any other text is still encodable, in smaller ones."""

import collections
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIALS = [PAD, START, END]
MIN_COUNT = 3


def pre_tokenizer():
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False)])


def bpe_steps(word, ranks):
    """Merges done to encode one pre-token, lowest rank first: yields (left, right)."""
    parts = list(word)
    while len(parts) > 1:
        rank, i = min((ranks.get((a, b), 1 << 30), i) for i, (a, b) in enumerate(zip(parts, parts[1:])))
        if rank == 1 << 30:
            return
        yield parts[i], parts[i + 1]
        parts[i:i + 2] = [parts[i] + parts[i + 1]]


def prune(tokens, merges, texts):
    """-> (tokens in new id order, merges in rank order, old id of each new id)."""
    pairs = [tuple(m.split(" ")) for m in merges]
    ranks = {m: i for i, m in enumerate(pairs)}
    pre = pre_tokenizer()
    words = collections.Counter(w for t in texts for w, _ in pre.pre_tokenize_str(t))
    used = {step for w, n in words.items() if n >= MIN_COUNT for step in bpe_steps(w, ranks)}
    kept_merges = [m for m in pairs if m in used]
    kept = set(SPECIALS) | set(pre_tokenizers.ByteLevel.alphabet()) | {a + b for a, b in kept_merges}
    old = [i for i, t in enumerate(tokens) if t in kept]
    return [tokens[i] for i in old], [" ".join(m) for m in kept_merges], old


def build(tokens, merges):
    """A Hugging Face tokenizer of the pruned vocabulary."""
    t = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    t.pre_tokenizer = pre_tokenizer()
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS])
    return t


def prompt_ids(tokenizer, question):
    """<|im_start|> question <|im_end|>: the answer follows, beginning with a space."""
    return ([tokenizer.token_to_id(START)] + tokenizer.encode(question).ids
            + [tokenizer.token_to_id(END)])


def answer_ids(tokenizer, answer):
    return tokenizer.encode(" " + answer.strip()).ids + [tokenizer.token_to_id(END)]


def save(path, tokens, merges, old):
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"tokens": tokens, "merges": merges, "old": old}, f)


def load(path):
    with open(path, encoding="utf-8") as f:
        d = json.load(f)
    return d["tokens"], d["merges"], d["old"]
