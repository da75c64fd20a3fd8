"""The stages of training; each is resumable to the step, and its learning rate follows the time or the steps it is given.

bridge    the bridge alone, with throw-away heads: rich visual tokens before any word is learnt
text      the decoder on caption sentences, of whose pictures only what they name is seen, two a picture
names     the cross-attention alone, fast: to speak of what the token of names says
all       everything, the heads kept at a small weight
critical  as all, at a small rate, and captions of the network's own, rewarded by CIDEr-D (self-critical sequence training,
          Rennie et al., arXiv:1612.00563; its baseline is the mean of a picture's other draws, Luo, arXiv:2003.09971)"""

import dataclasses
import itertools
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F

import train.cards as cards
import train.cider as cider
import train.concepts as concepts
import train.corpus as corpus
import train.facts as facts
import train.heads as heads
import train.model as model
import train.names as names
import train.retell as retell
import train.tokenizer as tokenizer
import train.trie as trie
import train.wording as wording

MIN_RANK, MIN_PRESENCE = 40, 0.85  # of the bridge stage's tokens


@dataclasses.dataclass(frozen=True)
class Stage:
    trains: tuple            # parts of the names of the parameters that learn
    words: bool              # the decoder reads cards
    heads_weight: float
    sentences: float = 0.0   # for each picture of a step, told without a picture
    cards: float = 1.0       # of the pictures of a step whose cards the decoder reads: the bridge is cheap
    draws: int = 0           # captions of its own for each of these pictures
    lr_heads: float = 3e-3
    lr_tower: float = 1e-4
    lr_bridge: float = 1e-3
    lr_cross: float = 5e-4
    lr_decoder: float = 2e-4


STAGES = {
    "bridge": Stage(("pool.", "names.", "heads."), words=False, heads_weight=1.0),
    "text": Stage(("blk.", "token_embd.", "output_norm."), words=True, heads_weight=0.0, sentences=2.0),
    "names": Stage(("cross_",), words=True, heads_weight=0.0, cards=1 / 3, sentences=1.0, lr_cross=1e-3),
    "all": Stage(("",), words=True, heads_weight=0.1, cards=1 / 3, sentences=1.0, lr_bridge=3e-4),
    "critical": Stage(("",), words=True, heads_weight=0.1, cards=1 / 3, draws=5, lr_heads=3e-4, lr_tower=1e-5, lr_bridge=2e-5, lr_cross=5e-5,
                      lr_decoder=2e-5),
}
ORDER = list(STAGES)
WARM, WEIGHT_DECAY, CLIP, SMOOTHING = 0.03, 0.02, 1.0, 0.05
LONGEST_CAPTION = 24
RENAMED = 2  # times that a picture of one thing is told as another
CALLED = 1 / 2  # of the sentences are no more than a name: in others most names are too rare to be learnt
NAMES = 0.1  # weight of recognising what has a name


class Net(torch.nn.Module):
    """What is trained: the model and its throw-away heads."""

    def __init__(self, vlm):
        super().__init__()
        self.vlm, self.heads = vlm, model.Heads(heads.SIZES)

    def named(self):
        """Parameters under their exported names; heads under heads."""
        yield from self.vlm.named_parameters()
        yield from (("heads." + n, p) for n, p in self.heads.named_parameters())


def optimiser(net, stage):
    """No weight decay on gates, norms, biases and positions."""
    groups = {}
    for name, p in net.named():
        if not any(part in name for part in stage.trains) or not p.requires_grad:
            p.requires_grad_(False)
            continue
        lr = (stage.lr_heads if name.startswith(("heads.", "names.")) else stage.lr_tower if name.startswith("top.") else
              stage.lr_bridge if name.startswith("pool.") else stage.lr_cross if "cross_" in name else stage.lr_decoder)
        decay = WEIGHT_DECAY if p.dim() > 1 and not name.endswith((".pos", ".query")) else 0.0
        groups.setdefault((lr, decay), []).append(p)
    return torch.optim.AdamW([{"params": ps, "peak": lr, "weight_decay": decay}
                              for (lr, decay), ps in groups.items()], betas=(0.9, 0.98), fused=True)


def rate(progress):
    """Warm-up, then a cosine to a hundredth, over the stage."""
    if progress < WARM:
        return progress / WARM + 1e-3
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - WARM) / (1 - WARM))))


class Encoder:
    def __init__(self, tokens, merges):
        self.tokenizer = tokenizer.build(tokens, merges)
        self.pad = self.tokenizer.token_to_id(tokenizer.PAD)

    def rows(self, card):
        return [(tokenizer.prompt_ids(self.tokenizer, q), tokenizer.answer_ids(self.tokenizer, a)) for q, a in card]


def plan(deck, features, seed, epoch, size):
    """Picture indices of each step of an epoch."""
    order = [i for i in deck.epoch(seed, epoch) if deck.pictures[i].key in features.index]
    return [order[i:i + size] for i in range(0, len(order) - size + 1, size)]


def surprise(net, visual, rows, pad, smoothing=0.0):
    """Cross-entropy of each token of the answers, in the order of rows."""
    ids, position, mask, held, where, targets = trie.collate(rows, pad)
    ids, position, held, targets = (x.to(visual.device) for x in (ids, position, held, targets))
    hidden = net.vlm(ids, visual, position, mask, held)[where[:, 0], where[:, 1]]
    return F.cross_entropy(net.vlm.logits(hidden).float(), targets, reduction="none", label_smoothing=smoothing)


def word_loss(net, visual, rows, pad):
    return surprise(net, visual, rows, pad, SMOOTHING).mean()


def caption_words(tokens, ids, end):
    """Words of a caption; that it ended is one."""
    words = facts.words(tokens.decode(ids))
    return words + [cider.END] if ids[-1] == end else words


class Run:
    """One stage of a run folder."""

    def __init__(self, folder, name, args, vlm, tokens, merges, features):
        self.folder, self.name, self.args, self.stage = folder, name, args, STAGES[name]
        self.tokens, self.merges, self.features = tokens, merges, features
        self.net = Net(vlm).to(args.device)
        self.encoder = Encoder(tokens, merges)
        pictures = facts.gather(args.root, args.data)
        labels = corpus.imagenet_labels(args.root, args.data)
        self.concepts = concepts.Concepts(vlm.names.called, list(labels.values()))
        self.sentences = [s for s in corpus.sentences(args.root, args.data) if self.concepts.said(s)]
        self.rarity = list(itertools.accumulate(self.concepts.rarity(self.sentences)))
        self.alone = {p.key for p in pictures.values() if p.names}  # pictures of one thing; retold ones show many
        retell.retell(pictures.values(), self.sentences, self.concepts, labels)
        self.deck = cards.Deck(pictures)
        self.targets = heads.Targets(self.deck.pictures)
        self.held_out = list(facts.gather(args.root, args.data, "val").values())
        self.reward = cider.Reward(self.deck.pictures) if self.stage.draws else None
        self.rewards = []
        self.step, self.elapsed, self.epoch, self.done = 0, 0.0, 0, 0

    @property
    def checkpoint(self):
        return os.path.join(self.folder, self.name + ".pt")

    def start(self):
        """Goes on from this stage's checkpoint, or from the weights of the stage before."""
        if os.path.exists(self.checkpoint):
            saved = torch.load(self.checkpoint, weights_only=True, map_location=self.args.device)
            self.net.load_state_dict(saved["net"])
            self.optimiser = optimiser(self.net, self.stage)
            peaks = [group["peak"] for group in self.optimiser.param_groups]  # today's, not the checkpoint's
            self.optimiser.load_state_dict(saved["optimiser"])
            for group, peak in zip(self.optimiser.param_groups, peaks):
                group["peak"] = peak
            self.step, self.elapsed, self.epoch, self.done = saved["at"]
            print(f"{self.name}: resumed at step {self.step}, {self.elapsed / 60:.1f} minutes", flush=True)
            return
        for before in reversed(ORDER[:ORDER.index(self.name)]):
            path = os.path.join(self.folder, before + ".pt")
            if os.path.exists(path):
                saved = torch.load(path, weights_only=True, map_location=self.args.device)
                self.net.load_state_dict(saved["net"])
                print(f"{self.name}: starts from {before}, step {saved['at'][0]}", flush=True)
                break
        self.optimiser = optimiser(self.net, self.stage)

    def save(self):
        torch.save({"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(),
                    "at": (self.step, self.elapsed, self.epoch, self.done), "tokens": self.tokens,
                    "merges": self.merges, "names": self.net.vlm.names.called, "variant": self.args.variant, "data": self.args.data},
                   self.checkpoint + ".part")
        os.replace(self.checkpoint + ".part", self.checkpoint)

    def losses(self, index):
        """One batch -> {name: loss}, to be added up."""
        keys = [self.deck.pictures[i].key for i in index]
        views = random.Random(f"views {self.args.seed} {self.step}")
        lo, imagenet = (x.to(self.args.device) for x in self.features.get(keys, views))
        out = {}
        with torch.autocast(self.args.device, torch.bfloat16, enabled=self.args.bf16):
            with torch.set_grad_enabled(any(p.requires_grad for p in self.net.vlm.pool.parameters())):
                visual, named = self.net.vlm.look(lo)
            if self.stage.heads_weight:
                dense = self.targets.loss(self.net.heads(visual[:, :model.N_QUERY].float()), index, imagenet)
                out |= {name: self.stage.heads_weight * loss for name, loss in dense.items()}
                shown = self.concepts.shown(imagenet.cpu(), [self.deck.pictures[i] for i in index])
                out["names"] = NAMES * heads.known_bce(named[:, :shown.shape[1]].float(), shown)
            if self.stage.words:
                read = index[:max(1, round(self.stage.cards * len(index)))]
                taught = [self.deck.card(i, self.args.seed, self.epoch, captions=not self.reward) for i in read]
                if not self.reward:
                    taught += [self.deck.named(i, random.Random(f"named {self.args.seed} {self.epoch} {i}")) for i in index[len(read):]]
                rows = [self.encoder.rows(card) for card in taught]
                filled = [i for i, r in enumerate(rows) if r]
                out["answers"] = word_loss(self.net, visual[filled], [rows[i] for i in filled], self.encoder.pad)
                out |= self.renamed_loss(index, visual, named)
            if self.reward:
                out["critical"] = self.critical_loss(index, visual)
            if self.stage.sentences and self.sentences:
                out["text"] = self.text_loss(round(self.stage.sentences * len(index)))
        return out

    def critical_loss(self, index, visual):
        """The network's own captions: likelier where they are nearer to people's than its others, less likely where further."""
        shown = [(i, self.deck.pictures[k]) for i, k in enumerate(index) if len(self.deck.pictures[k].captions) >= 3]
        shown = shown[:max(1, round(self.stage.cards * len(index)))]
        visual, tokens = visual[[i for i, _ in shown]], self.encoder.tokenizer
        asked = wording.draw(random.Random(f"critical {self.args.seed} {self.step}"), wording.DESCRIBE)
        prompt, end = tokenizer.prompt_ids(tokens, asked), tokens.token_to_id(tokenizer.END)
        dice = torch.Generator(visual.device).manual_seed(1000003 * self.args.seed + self.step)
        draws = self.net.vlm.answers(prompt, visual.detach(), end, LONGEST_CAPTION, self.stage.draws, dice)
        rewards = torch.tensor([[self.reward(caption_words(tokens, ids, end), p) for ids in own]
                                for own, (_, p) in zip(draws, shown)])
        gains = rewards - rewards.mean(1, keepdim=True)
        gains = gains / (gains.std() + 1e-6)  # or the cards' loss, ten times as large, keeps the captions as they are
        rows = [[(prompt, ids) for ids in own] for own in draws]
        weights = [gain for own, row in zip(draws, gains.tolist()) for ids, gain in zip(own, row) for _ in ids]
        self.rewards.append(rewards.mean().item())
        return (surprise(self.net, visual, rows, self.encoder.pad) * torch.tensor(weights, device=visual.device)).mean()

    def renamed(self, index, named):
        """Pictures of one thing under other names, named [b][names] logits -> (places in index, shares [n][names] of the token, rows)."""
        rng = random.Random(f"renamed {self.args.seed} {self.step}")
        places = [at for at, i in enumerate(index) if self.deck.pictures[i].key in self.alone for _ in range(RENAMED)]
        shares, rows = named[places].detach().float().sigmoid(), []
        for row, at in zip(shares, places):
            row[[i for name in self.deck.pictures[index[at]].names for i in self.concepts.said(name)]] = 0
            other = rng.randrange(len(self.concepts.names))
            row[other] = rng.uniform(concepts.NOISE, 1.0)
            rows.append([(wording.draw(rng, wording.DESCRIBE), facts.sentence(names.phrase(self.concepts.names[other])))])
        return places, shares, rows

    def renamed_loss(self, index, visual, named):
        """The token of names is to be believed whatever the pooled ones show, or the few pictures of most things are learnt by heart."""
        places, shares, rows = self.renamed(index, named)
        if not places:
            return {}
        visual = torch.cat([visual[places, :model.N_QUERY].detach(), self.net.vlm.names.token(shares)], 1)
        return {"renamed": word_loss(self.net, visual, [self.encoder.rows(card) for card in rows], self.encoder.pad)}

    def text_loss(self, n):
        """Sentences, and names alone, under the prompt of captions; of a picture only what they name is seen."""
        rng = random.Random(f"text {self.args.seed} {self.step}")
        told = rng.choices(self.sentences, cum_weights=self.rarity, k=n - round(CALLED * n))
        told += [names.phrase(name) for name in rng.sample(self.concepts.names, n - len(told))]
        rows = [self.encoder.rows([(wording.draw(rng, wording.DESCRIBE), facts.sentence(s))]) for s in told]
        heard = torch.stack([self.concepts.heard(s, rng) for s in told])
        return word_loss(self.net, self.net.vlm.named(heard.to(self.args.device)), rows, self.encoder.pad)

    @property
    def progress(self):
        """0 to 1 and beyond. Time counts what waits for other work too: on a busy machine give steps."""
        return self.step / self.args.steps if self.args.steps else self.elapsed / (60 * self.args.minutes)

    def train(self):
        saved_at = time.time()
        window, pictures, since = {}, 0, time.time()
        log = open(os.path.join(self.folder, self.name + ".log.jsonl"), "a", encoding="utf-8")
        while self.progress < 1:
            steps = plan(self.deck, self.features, self.args.seed, self.epoch, self.args.batch)
            if not steps:
                raise SystemExit(f"{self.name}: no epoch of --batch {self.args.batch} in these features")
            for index in steps[self.done:]:
                begin = time.time()
                for group in self.optimiser.param_groups:
                    group["lr"] = group["peak"] * self.args.lr_scale * rate(self.progress)
                losses = self.losses(index)
                sum(losses.values()).backward()
                torch.nn.utils.clip_grad_norm_([p for _, p in self.net.named() if p.requires_grad], CLIP)
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
                self.step, self.done = self.step + 1, self.done + 1
                pictures += len(index)
                self.elapsed += time.time() - begin
                for name, loss in losses.items():
                    window.setdefault(name, []).append(loss.item())
                if self.step % self.args.log_steps == 0:
                    line = {"step": self.step, "minutes": round(self.elapsed / 60, 2), "epoch": self.epoch,
                            "pictures_per_s": round(pictures / (time.time() - since), 1),
                            "loss": {k: round(sum(v) / len(v), 4) for k, v in window.items()}}
                    if self.rewards:
                        line["reward"], self.rewards = round(sum(self.rewards) / len(self.rewards), 4), []
                    print(json.dumps(line), file=log, flush=True)
                    print(json.dumps(line), flush=True)
                    window, pictures, since = {}, 0, time.time()
                if time.time() - saved_at > self.args.save_minutes * 60:
                    self.save()
                    saved_at = time.time()
                if self.progress >= 1:
                    break
            else:
                self.epoch, self.done = self.epoch + 1, 0
        self.save()
        if self.stage.heads_weight:
            self.report()

    def report(self):
        rank, presence = heads.probe(self.net.vlm, self.net.heads, self.features, self.held_out)
        print(f"{self.name}: effective rank {rank:.1f}, presence by the head {100 * presence:.1f} %", flush=True)
        if self.name == "bridge" and (rank < MIN_RANK or presence < MIN_PRESENCE):
            print(f"{self.name}: below rank {MIN_RANK} or presence {100 * MIN_PRESENCE:.0f} %: train it longer",
                  flush=True)


def load(path):
    """-> (network, tokens, merges, variant, data) of a checkpoint."""
    saved = torch.load(path, weights_only=True, map_location="cpu")
    vlm = model.TinyVLM(len(saved["tokens"]), len(model.VARIANTS[saved["variant"]]), saved["names"])
    vlm.load_state_dict({k.removeprefix("vlm."): v for k, v in saved["net"].items() if k.startswith("vlm.")})
    return vlm.eval(), saved["tokens"], saved["merges"], saved["variant"], saved["data"]
