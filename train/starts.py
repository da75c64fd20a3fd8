"""First weights: SmolLM2's layers and a pruned vocabulary, or a GGUF file of ours to go on from."""

import random

import torch

import train.cards as cards
import train.concepts as concepts
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
    if len(vlm.blk) != len(model.VARIANTS[args.variant]):
        vlm = grown(vlm, args.variant)
    if not vlm.names:
        add_names(vlm, args, tokenizer.build(tokens, merges))
    return vlm, tokens, merges


def add_names(vlm, args, built):
    labels = list(corpus.imagenet_labels(args.root, args.data).values())
    vlm.names = concepts.naming(concepts.everything(labels), labels, built, vlm.token_embd.weight)


def grown(small, variant):
    """A larger variant that computes what the small one does: its layers where their sources stand, between them
    SmolLM2's with outputs of zero."""
    from train.smollm2 import SmolLM2
    smollm2, sources = SmolLM2(), model.VARIANTS[variant]
    vlm = model.TinyVLM(small.token_embd.num_embeddings, len(sources), small.names and small.names.called)
    for name, p in small.named_children():
        if name != "blk":
            getattr(vlm, name).load_state_dict(p.state_dict())
    for layer, source in zip(vlm.blk, sources):
        model.start_layer(layer, smollm2, source)
        with torch.no_grad():
            layer.attn_output.weight.zero_()
            layer.ffn_down.weight.zero_()
    for layer, place in zip(small.blk, places(len(small.blk), sources)):
        vlm.blk[place].load_state_dict(layer.state_dict())
    return vlm


def places(n, sources):
    """Where the n layers of a smaller variant go among `sources`: the nearest of each one's own source."""
    own = next((v for v in model.VARIANTS.values() if len(v) == n), None)
    if own is None or n > len(sources):
        raise SystemExit(f"--start has {n} layers, which do not grow into {len(sources)}")
    at = [min(range(len(sources)), key=lambda i: abs(sources[i] - s)) for s in own]
    if len(set(at)) < n:
        raise SystemExit(f"--start: two of its {n} layers have one place among {len(sources)}")
    return at


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
    built = tokenizer.build(tokens, merges)
    model.initialise(vlm, smollm2, old, model.VARIANTS[args.variant], class_names(args, built))
    add_names(vlm, args, built)
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
    labels = corpus.imagenet_labels(args.root, args.data)
    return [built.encode(" " + label).ids for label in labels.values()] or None
