"""Tiny-VLM from the first map of its tower on: the tower's top, attention pooling, a decoder with gated cross-attention.

Parameter names are the exported tensor names. Shapes: B rows of text, I pictures, T ids, d width. The maths
is that of src/vision/pooling.c and src/lm/decoder.c."""

import torch
import torch.nn.functional as F
from torch import nn

import train.tower as tower

D, HEADS, KV_HEADS, HEAD_DIM, FF = 576, 9, 3, 64, 1536
RMS_EPS, ROPE_THETA, LN_EPS = 1e-5, 100000.0, 1e-5
N_QUERY, POOL_FF = 32, 1152
PAD = 32  # names: a block of the smallest quantized types
CONTEXT = 512
# SmolLM2-135M layers that start each variant: 31.9, 55.5 and 107.3 MB in int8, the second 54.8 with its names in Q4_0
VARIANTS = {"25m": [0, 1, 15, 29], "50m": [0, 1, 4, 8, 12, 15, 19, 24, 29],
            "100m": [i for i in range(30) if i not in (3, 6, 9, 11, 14, 17, 21, 23, 26, 28)]}
GATE_INIT = 0.1  # the cross output starts at zero; a gate of 1 makes its steps coarse beside the first layers' 0.1 rms


def attend(q, k, v, mask=None):
    """q [B][h][T][64], k, v [B][h][S][64]: plain products are faster here than the fused call
    backwards, for sequences this short."""
    a = q @ k.transpose(-1, -2) * HEAD_DIM ** -0.5
    if mask is not None:
        a = a.masked_fill(mask, float("-inf"))
    return a.float().softmax(-1).to(q.dtype) @ v


def heads(x, n):
    return x.unflatten(-1, (n, HEAD_DIM)).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).flatten(2)


class Pooling(nn.Module):
    """N learned queries cross-attend to both maps of the tower (2-D positions learned)."""

    def __init__(self):
        super().__init__()
        self.hi, self.lo = nn.Linear(tower.C_HI, D), nn.Linear(tower.C_LO, D)
        self.pos = nn.Parameter(torch.randn(tower.N_HI + tower.N_LO, D) * 0.02)
        self.norm = nn.LayerNorm(D, eps=LN_EPS)
        self.query = nn.Parameter(torch.randn(N_QUERY, D))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            setattr(self, name, nn.Linear(D, D))
            nn.init.zeros_(getattr(self, name).bias)
        self.ffn_norm = nn.LayerNorm(D, eps=LN_EPS)
        self.ffn_up, self.ffn_down = nn.Linear(D, POOL_FF), nn.Linear(POOL_FF, D)
        self.out_norm = nn.LayerNorm(D, eps=LN_EPS)

    def tokens(self, hi, lo):
        """hi [I][49][1280], lo [I][196][112] -> [I][245][d]"""
        return self.norm(torch.cat([self.hi(hi), self.lo(lo)], 1) + self.pos)

    def forward(self, hi, lo):
        """-> visual tokens [I][32][d]. The queries are the same for every picture, so their products with the
        key matrix are made once, and values are projected after they are mixed: half the work of the
        plain form, to which it is equal (a key bias adds the same to every score)."""
        t = self.tokens(hi, lo)
        q = self.attn_q(self.query).unflatten(-1, (HEADS, HEAD_DIM)).transpose(0, 1)
        qk = q @ self.attn_k.weight.view(HEADS, HEAD_DIM, D) * HEAD_DIM ** -0.5       # [h][32][d]
        scores = (t @ qk.flatten(0, 1).T).float().softmax(1).to(t.dtype)              # [I][245][h * 32]
        mixed = (scores.transpose(1, 2) @ t).unflatten(1, (HEADS, N_QUERY))           # [I][h][32][d]
        a = mixed @ self.attn_v.weight.view(HEADS, HEAD_DIM, D).transpose(1, 2)
        y = self.query + self.attn_output(merge(a) + self.attn_v.bias)
        y = y + self.ffn_down(F.gelu(self.ffn_up(self.ffn_norm(y))))
        return self.out_norm(y)


class Naming(nn.Module):
    """One more visual token, in the decoder's own words: what the tower recognises, as the direction of the embeddings of its
    names. Their embeddings are those of the first weights and do not learn."""

    def __init__(self, called):
        """called: the names; what fills up to a multiple of PAD, so that the matrices quantize in blocks, is never recognised"""
        super().__init__()
        self.called, n = list(called), -(-len(called) // PAD) * PAD
        self.score, self.embd = nn.Linear(tower.C_HI, n), linear(n, D)
        self.embd.weight.requires_grad_(False)
        self.norm = nn.RMSNorm(D, eps=LN_EPS)

    def scores(self, hi):
        """hi [I][49][1280] -> logit of each name [I][names]"""
        return self.score(hi.mean(1))

    def token(self, shares):
        """shares [I][names] in 0..1 -> [I][1][d]"""
        return self.norm(self.embd(shares))[:, None]


class Heads(nn.Module):
    """Throw-away heads that keep the visual tokens rich: each token through its own narrow projection,
    then one linear layer for everything."""

    def __init__(self, sizes, width=32):
        super().__init__()
        self.sizes = sizes  # {name: outputs}
        self.narrow = nn.Parameter(torch.randn(N_QUERY, D, width) * D ** -0.5)
        self.out = nn.Linear(N_QUERY * width, sum(sizes.values()))

    def forward(self, visual):
        x = torch.einsum("itd,tdw->itw", visual, self.narrow).flatten(1)
        return dict(zip(self.sizes, self.out(x).split(list(self.sizes.values()), -1)))


class Places:
    """Rows [B][T] of which only some places hold a token: all but attention works on those alone, [N][d]."""

    def __init__(self, shape, held=None):
        """held [B][T] bool; all of them without"""
        self.shape, self.index = shape, None if held is None else held.flatten().nonzero()[:, 0]

    def gather(self, x):
        """[B][T][d] -> [N][d]"""
        return x.flatten(0, 1) if self.index is None else x.flatten(0, 1)[self.index]

    def spread(self, x):
        """[N][d] -> [B][T][d], zeros where no token is"""
        if self.index is not None:
            x = x.new_zeros(self.shape[0] * self.shape[1], x.shape[-1]).index_copy(0, self.index, x)
        return x.unflatten(0, self.shape)


def linear(n_in, n_out):
    return nn.Linear(n_in, n_out, bias=False)


def rope(x, cos, sin):
    """Halves convention: pairs (i, i + d/2)."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm = nn.RMSNorm(D, eps=RMS_EPS)
        self.attn_q, self.attn_output = linear(D, D), linear(D, D)
        self.attn_k, self.attn_v = (linear(D, KV_HEADS * HEAD_DIM) for _ in range(2))
        self.cross_norm = nn.RMSNorm(D, eps=RMS_EPS)
        self.cross_q, self.cross_output = linear(D, D), linear(D, D)
        self.cross_k, self.cross_v = (linear(D, KV_HEADS * HEAD_DIM) for _ in range(2))
        self.cross_gate = nn.Parameter(torch.full((1,), GATE_INIT))
        self.ffn_norm = nn.RMSNorm(D, eps=RMS_EPS)
        self.ffn_gate, self.ffn_up, self.ffn_down = linear(D, FF), linear(D, FF), linear(FF, D)

    def seen(self, visual):
        """visual [B][33][d] -> keys and values of the cross-attention [B][9][32][64]"""
        return [heads(f(visual), KV_HEADS).repeat_interleave(HEADS // KV_HEADS, 1) for f in (self.cross_k, self.cross_v)]

    def forward(self, x, places, seen, cos, sin, mask, past=None):
        """x [N][d], the tokens at `places`; seen: of `seen`; mask [B or 1][1][T][T]: True where a row may not look.
        past: [keys, values] of earlier rows, or [], which this call extends."""
        n = self.attn_norm(x)
        q = rope(heads(places.spread(self.attn_q(n)), HEADS), cos, sin)
        k, v = (heads(places.spread(f(n)), KV_HEADS) for f in (self.attn_k, self.attn_v))
        kv = [rope(k, cos, sin), v]
        if past is not None:
            kv = past[:] = [torch.cat(pair, 2) for pair in zip(past, kv)] if past else kv
        k, v = (m.repeat_interleave(HEADS // KV_HEADS, 1) for m in kv)
        x = x + self.attn_output(places.gather(merge(attend(q, k, v, mask))))
        q = heads(places.spread(self.cross_q(self.cross_norm(x))), HEADS)
        x = x + torch.tanh(self.cross_gate) * self.cross_output(places.gather(merge(attend(q, *seen))))
        n = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(n)) * self.ffn_up(n))


def rotations(position):
    """position [B][T] -> cosines and sines [B][1][T][32]"""
    inv = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
    angle = position[:, None, :, None].double() * inv.to(position.device)
    return angle.cos().float(), angle.sin().float()


class TinyVLM(nn.Module):
    def __init__(self, n_vocab, n_layers, called=None):
        super().__init__()
        self.top = tower.Top()
        self.pool = Pooling()
        self.names = Naming(called) if called else None
        self.token_embd = nn.Embedding(n_vocab, D)
        self.blk = nn.ModuleList(Layer() for _ in range(n_layers))
        self.output_norm = nn.RMSNorm(D, eps=RMS_EPS)

    def forward(self, ids, visual, position=None, mask=None, held=None):
        """ids [B][T], visual [B][33][d] -> hidden states after the last norm [B][T][d]. Plain text unless
        position [B][T] and mask [B][1][T][T] say otherwise; held [B][T]: where a token is, if not everywhere."""
        t = ids.shape[1]
        if position is None:
            position = torch.arange(t)[None]
            mask = torch.ones(t, t, dtype=torch.bool).triu(1)[None, None]
        cos, sin = rotations(position)
        mask = mask.to(ids.device)
        places = Places(ids.shape, held)
        x = places.gather(self.token_embd(ids))
        for layer in self.blk:
            x = layer(x, places, layer.seen(visual), cos, sin, mask)
        return places.spread(self.output_norm(x))

    def look(self, lo):
        """The tower's first map [I][196][112] -> visual tokens [I][33][d], the logit of each name [I][names]"""
        hi = self.top(lo)
        scores = self.names.scores(hi)
        return torch.cat([self.pool(hi, lo), self.names.token(scores.sigmoid())], 1), scores

    def see(self, lo):
        """-> the visual tokens alone; [I][32][d] of a network without names"""
        return self.look(lo)[0] if self.names else self.pool(self.top(lo), lo)

    def named(self, shares):
        """Visual tokens of what is known by name alone, shares [I][names called] in 0..1 -> [I][33][d], the others zero"""
        token = self.names.token(F.pad(shares, (0, self.names.score.out_features - shares.shape[1])))
        return F.pad(token, (0, 0, N_QUERY, 0))

    def logits(self, hidden):
        return hidden @ self.token_embd.weight.T  # tied

    @torch.no_grad()
    def answers(self, prompt, visual, eos, max_tokens=24, draws=1, generator=None):
        """One prompt about each picture, visual [I][33][d] -> [I][draws] id lists, with eos where they end: the likeliest
        token at each step, or with a generator draws from all of them."""
        rows = len(visual) * draws
        seen = [[m.repeat_interleave(draws, 0) for m in layer.seen(visual)] for layer in self.blk]
        past = [[] for _ in self.blk]
        ids, done = torch.tensor([prompt] * rows, device=visual.device), torch.zeros(rows, dtype=torch.bool, device=visual.device)
        out = []
        for at in range(max_tokens):
            first = 0 if not out else len(prompt) + at - 1
            t = ids.shape[1]
            cos, sin = rotations(torch.arange(first, first + t, device=ids.device)[None])
            mask = torch.ones(t, t, dtype=torch.bool, device=ids.device).triu(1)[None, None] if t > 1 else None
            places = Places(ids.shape)
            x = places.gather(self.token_embd(ids))
            for layer, s, p in zip(self.blk, seen, past):
                x = layer(x, places, s, cos, sin, mask, p)
            logits = self.logits(self.output_norm(places.spread(x)[:, -1])).float()
            ids = torch.multinomial(logits.softmax(-1), 1, generator=generator) if generator else logits.argmax(-1, True)
            out.append(ids.masked_fill(done[:, None], -1))
            done |= ids[:, 0] == eos
            if done.all():
                break
        lists = [[i for i in row if i >= 0] for row in torch.cat(out, 1).tolist()]
        return [lists[i:i + draws] for i in range(0, rows, draws)]


def start_layer(layer, smollm2, source):
    """A layer of SmolLM2's; its cross-attention asks as its self-attention does and adds nothing yet."""
    with torch.no_grad():
        for name, p in layer.named_parameters():
            if not name.startswith("cross"):
                p.copy_(smollm2.tensor(f"blk.{source}.{name}"))
        layer.cross_norm.weight.copy_(layer.attn_norm.weight)
        layer.cross_q.weight.copy_(layer.attn_q.weight)
        layer.cross_output.weight.zero_()


def initialise(model, smollm2, old_ids, layers, class_names):
    """Decoder from SmolLM2's layers; the bridge so that the tower's ImageNet classifier speaks the
    decoder's language: the 1280 features are projected by classifier weights times the embeddings of
    the class names, scaled to unit variance of the default initialisation."""
    with torch.no_grad():
        model.token_embd.weight.copy_(smollm2.tensor("token_embd.weight")[old_ids])
        model.output_norm.weight.copy_(smollm2.tensor("output_norm.weight"))
        for layer, source in zip(model.blk, layers):
            start_layer(layer, smollm2, source)
        if class_names is not None:
            embeddings = torch.stack([model.token_embd.weight[n].mean(0) for n in class_names])
            classifier = tower.load()["classifier.weight"]
            w = embeddings.T @ (classifier - classifier.mean(0))
            model.pool.hi.weight.copy_(w * (model.pool.hi.weight.std() / w.std()))


def average(vlm, other, share):
    """vlm becomes share * vlm + (1 - share) * other: fine-tuned weights and those that they come from lie in one valley
    (arXiv:2109.01903)."""
    mine, theirs = vlm.state_dict(), other.state_dict()
    vlm.load_state_dict({name: torch.lerp(theirs[name], p, share) if name in theirs else p for name, p in mine.items()})
