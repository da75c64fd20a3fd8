"""First weights: SmolLM2's layers and a pruned vocabulary, or a GGUF file of ours to go on from."""

import random

import torch

import train.cards as cards
import train.corpus as corpus
import train.facts as facts
import train.gguf_file as gguf_file
import train.model as model
import train.tokenizer as tokenizer

SENTENCES_READ = 30000  # for the vocabulary: all of them would double it with rare words


def weights(args):
    """-> (network, tokens, merges)"""
    if args.start == "smollm2":
        return from_smollm2(args)
    vlm, tokens, merges = gguf_file.read(args.start)
    if args.fresh_bridge:
        fresh_bridge(vlm)
    return vlm, tokens, merges


def fresh_bridge(vlm):
    vlm.pool = model.Pooling()
    with torch.no_grad():
        for layer in vlm.blk:
            layer.cross_output.weight.zero_()
            layer.cross_gate.fill_(model.GATE_INIT)


def from_smollm2(args):
    from train.smollm2 import SmolLM2
    smollm2 = SmolLM2()
    tokens, merges, old = tokenizer.prune(smollm2.tokens, smollm2.merges, texts(args))
    vlm = model.TinyVLM(len(tokens), len(model.VARIANTS[args.variant]))
    names = class_names(args, tokenizer.build(tokens, merges))
    model.initialise(vlm, smollm2, old, model.VARIANTS[args.variant], names)
    return vlm, tokens, merges


def texts(args):
    """What the vocabulary must spell well: a card of each picture and some of the sentences."""
    deck = cards.Deck(facts.gather(args.root, args.data))
    for i in range(len(deck.pictures)):
        for question, answer in deck.card(i, args.seed, epoch=0):
            yield question
            yield " " + answer
    sentences = corpus.sentences(args.root, args.data)
    for sentence in random.Random(args.seed).sample(sentences, min(SENTENCES_READ, len(sentences))):
        yield " " + sentence


def class_names(args, built):
    """Token ids of each ImageNet class's name in order of its id, when all thousand are known."""
    labels = {r["image"]: r["label"] for split in ("train", "val", "test")
              for r in corpus.captions(args.root, args.data, split) if r["source"] == "imagenet1k_sample"}
    return [built.encode(" " + labels[k]).ids for k in sorted(labels)] if len(labels) == 1000 else None
