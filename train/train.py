"""Trains Tiny-VLM on cached features; resumable.

  python train.py --root DATA --features DIR --out RUN --variant 25m --minutes 60

The learning rate follows the elapsed training time (warm-up, then cosine to zero at --minutes), so a
run ends well on any machine; --out/last.pt is written every few minutes and picked up again."""

import argparse
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F

import data
import model as tiny
import tokenizer as tok
from features import Features
from smollm2 import SmolLM2

LR_NEW, LR_PRETRAINED = 1e-3, 3e-4
LABEL_SMOOTHING = 0.05
PER_PICTURE = 4  # samples of one picture that share a batch, so that its pooling runs once


def groups(samples, rng):
    """Samples in groups of one picture, at most PER_PICTURE each, shuffled."""
    by_picture = {}
    for s in samples:
        by_picture.setdefault(s[0], []).append(s)
    out = []
    for rows in by_picture.values():
        rng.shuffle(rows)
        out += [rows[i:i + PER_PICTURE] for i in range(0, len(rows), PER_PICTURE)]
    rng.shuffle(out)
    return out


def batches(samples, tokenizer, rng, batch):
    """Batches of about `batch` samples, of similar lengths: groups are sorted within windows."""
    encoded = [[(key, tok.prompt_ids(tokenizer, q), tok.answer_ids(tokenizer, a)) for key, q, a in g]
               for g in groups(samples, rng)]
    window = 40 * batch // PER_PICTURE
    out = []
    for i in range(0, len(encoded), window):
        part = sorted(encoded[i:i + window], key=lambda g: max(len(p) + len(a) for _, p, a in g))
        current = []
        for g in part:
            current += g
            if len(current) >= batch:
                out.append(current)
                current = []
        if current:
            out.append(current)
    rng.shuffle(out)
    return out


def collate(rows, pad):
    """-> picture keys, picture index [B], ids [B][T], targets [B][T] (-100 outside the answer)."""
    keys = list(dict.fromkeys(r[0] for r in rows))
    where = {k: i for i, k in enumerate(keys)}
    t = max(len(p) + len(a) for _, p, a in rows) - 1
    ids = torch.full((len(rows), t), pad)
    targets = torch.full((len(rows), t), -100)
    for i, (_, p, a) in enumerate(rows):
        full = torch.tensor(p + a)
        ids[i, :len(full) - 1] = full[:-1]
        targets[i, len(p) - 1:len(full) - 1] = full[len(p):]
    return keys, torch.tensor([where[r[0]] for r in rows]), ids, targets


def learning_rate(progress, warm=0.03):
    if progress < warm:
        return progress / warm + 1e-3
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm) / (1 - warm)))) + 1e-3


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--root", required=True)
    p.add_argument("--features", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--data", choices=data.GROUPS, default="all")
    p.add_argument("--variant", choices=tiny.VARIANTS, default="25m")
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--batch", type=int, default=96)
    p.add_argument("--caption-repeat", type=int, default=2, help="weight of the human captions")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--save-minutes", type=float, default=4)
    args = p.parse_args()

    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    smollm2 = SmolLM2()
    vocab_path = os.path.join(args.out, "vocab.json")
    if not os.path.exists(vocab_path):
        texts = [t for s in data.samples(args.root, args.data, random.Random(0)) for t in (s[1], " " + s[2])]
        tok.save(vocab_path, *tok.prune(smollm2.tokens, smollm2.merges, texts))
    tokens, merges, old = tok.load(vocab_path)
    tokenizer = tok.build(tokens, merges)
    pad = tokenizer.token_to_id(tok.PAD)

    net = tiny.TinyVLM(len(tokens), len(tiny.VARIANTS[args.variant]))
    labels = {r["image"]: r["label"] for s in ("train", "test")
              for r in data.rows(args.root, args.data, ".captions.jsonl", s)
              if r["source"] == "imagenet1k_sample"}
    names = [tokenizer.encode(" " + labels[k]).ids for k in sorted(labels)] if len(labels) == 1000 else None
    tiny.initialise(net, smollm2, old, tiny.VARIANTS[args.variant], names)
    new = [q for n, q in net.named_parameters() if "pool." in n or "cross_" in n]
    pretrained = [q for n, q in net.named_parameters() if "pool." not in n and "cross_" not in n]
    optimiser = torch.optim.AdamW([{"params": new, "peak": LR_NEW}, {"params": pretrained, "peak": LR_PRETRAINED}],
                                  betas=(0.9, 0.98), weight_decay=0.05)
    last = os.path.join(args.out, "last.pt")
    step, elapsed, epoch, skip = 0, 0.0, 0, 0
    if os.path.exists(last):
        saved = torch.load(last, weights_only=True)
        net.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, elapsed, epoch, skip = saved["step"], saved["elapsed"], saved["epoch"], saved["done"]
        print(f"resumed at step {step}, {elapsed / 60:.1f} minutes", flush=True)
    features = Features(args.features)
    print(f"{len(tokens)} ids, {sum(q.numel() for q in net.parameters()) / 1e6:.1f}M parameters", flush=True)

    def save(done):
        torch.save({"model": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step,
                    "elapsed": elapsed, "epoch": epoch, "done": done,
                    "config": {"variant": args.variant, "data": args.data}}, last + ".part")
        os.replace(last + ".part", last)

    total, losses, seen, since = args.minutes * 60, [], 0, time.time()
    saved_at = time.time()
    while elapsed < total:
        rng = random.Random(args.seed * 1000 + epoch)
        plan = batches(data.samples(args.root, args.data, rng, args.caption_repeat), tokenizer, rng, args.batch)
        print(f"epoch {epoch}: {len(plan)} batches", flush=True)
        for done, rows in enumerate(plan):
            if done < skip:
                continue
            begin = time.time()
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * learning_rate(elapsed / total)
            keys, picture, ids, targets = collate(rows, pad)
            hi, lo = features.get(keys)
            with torch.autocast("cpu", torch.bfloat16):
                hidden = net(ids, net.pool(hi, lo), picture)
                wanted = targets != -100
                logits = net.logits(hidden[wanted])
            loss = F.cross_entropy(logits.float(), targets[wanted], label_smoothing=LABEL_SMOOTHING)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            step += 1
            seen += len(rows)
            losses.append(loss.item())
            elapsed += time.time() - begin
            if step % 25 == 0:
                rate = seen / (time.time() - since)
                print(f"step {step} epoch {epoch} {done}/{len(plan)} loss {sum(losses) / len(losses):.3f} "
                      f"{rate:.0f} samples/s, {elapsed / 60:.1f} of {args.minutes:.0f} min", flush=True)
                losses, seen, since = [], 0, time.time()
            if time.time() - saved_at > args.save_minutes * 60:
                save(done + 1)
                saved_at = time.time()
            if elapsed >= total:
                break
        epoch, skip = epoch + 1, 0
    save(0)
    torch.save({"model": {k: v.float() for k, v in net.state_dict().items()},
                "config": {"variant": args.variant, "data": args.data}}, os.path.join(args.out, "model.pt"))
    with open(os.path.join(args.out, "train.json"), "w", encoding="utf-8") as f:
        json.dump(vars(args) | {"steps": step, "epochs": epoch}, f, indent=1)


if __name__ == "__main__":
    main()
