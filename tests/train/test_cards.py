"""What the pictures teach: nothing of test pictures, balanced answers, the same cards after a restart."""

import collections
import json
import random
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from train import cards, cider, classes, concepts, facts, names, retell, wording


@pytest.fixture(scope="module")
def deck(root):
    return cards.Deck(facts.gather(str(root), "all"))


def test_only_training_pictures(root, deck):
    numbers = {int(p.key[-7:-4]) % 5 for p in deck.pictures}
    assert numbers == {0, 1, 2}
    assert all(p.scores is not None for p in deck.pictures)
    assert {int(k[-7:-4]) % 5 for k in facts.gather(str(root), "all", "val")} == {3}


def test_permissive_reads_no_research(root):
    assert facts.gather(str(root), "permissive") == {}


def test_what_is_known(deck):
    dog, man = (next(p for p in deck.pictures if p.key == f"flickr8k/{k}.jpg") for k in ("001", "000"))
    present = dog.present()
    assert present[classes.INDEX["dog"]] == 1 and present[classes.INDEX["person"]] == 0
    assert (present == -1).sum() == 1
    assert dog.objects == "A dog."
    assert facts.Fact("count", "dogs", "two") in dog.facts
    assert facts.Fact("colour", "dog", "brown") in dog.facts
    assert facts.Fact("setting", "", "outdoors") in man.facts
    assert not any(f.answer == "zebra" for f in dog.facts), "too few people agreed"
    assert ("man", True) in man.other_presence and ("woman", False) in man.other_presence
    assert man.people == 1


@pytest.mark.parametrize("captions, colours", [
    (["A red shirt.", "A blue shirt.", "A man."], {}),
    (["A black and white dog.", "A dog.", "A dog."], {}),
    (["A grey car.", "A car.", "The car is parked."], {"car": "gray"})])
def test_colours_of_captions(captions, colours):
    picture = facts.Picture("flickr8k/x.jpg")
    picture.captions = captions
    assert {f.thing: f.answer for f in facts.colours(picture)} == colours


def test_cards_depend_on_the_draw_alone(deck):
    assert deck.card(3, seed=1, epoch=0) == deck.card(3, seed=1, epoch=0)
    assert deck.card(3, seed=1, epoch=0) != deck.card(3, seed=1, epoch=1)
    assert deck.epoch(1, 0) == deck.epoch(1, 0) != deck.epoch(1, 1)


def test_yes_and_no_are_balanced_by_class(deck):
    said = collections.defaultdict(collections.Counter)
    for epoch in range(100):
        for i in range(len(deck.pictures)):
            for question, answer in deck.card(i, 1, epoch):
                for name in ("dog", "person"):
                    if f"there a {name} " in question:
                        said[name][answer] += 1
    for name, answers in said.items():
        assert 0.6 < answers["yes"] / answers["no"] < 1.7, (name, answers)


def test_what_comes_with_the_things_shown():
    dog, frisbee, cup = np.eye(80, dtype=bool)[[16, 29, 41]]
    present = np.stack([dog | frisbee] * 3 + [dog, cup] + [np.zeros(80, bool)] * 5)
    near = cards.company(present)
    assert near[3, 29] == pytest.approx(3 * 10 / (4 * 3 + 1)) and near[3, 41] == 0, "a frisbee comes with dogs"
    assert near[4, 29] == 0 and not near[5:].any() and near.max() <= cards.MOST_COMPANY
    _, no, _ = cards.presence_weights(present.astype(np.int8))
    assert no[3, 29] / no[5, 29] == pytest.approx((cards.STRANGE + near[3, 29]) / cards.STRANGE)


def test_captions_keep_to_describe_prompts(deck):
    openings = {w.lower().rstrip("?.!") for w in wording.DESCRIBE}
    for i in range(len(deck.pictures)):
        for question, answer in deck.card(i, 1, 0):
            if answer in deck.pictures[i].captions:
                assert question.lower().rstrip("?.!") in openings


def test_rewards_are_those_of_the_reference():
    """The values of pycocoevalcap in metrics.json, which tests/unit/test_metrics.c compares too."""
    text = (Path(__file__).parents[1] / "data" / "metrics.json").read_text()
    for case in json.loads(text.replace("t-shirt", "tshirt")):  # a word, as there
        pictures = []
        for i, row in enumerate(case["captions"]):
            picture = facts.Picture(f"flickr8k/{i}.jpg")
            picture.captions = row["references"]
            pictures.append(picture)
        reward = cider.Reward(pictures, end=())
        got = [reward(facts.words(row["text"]), p) for row, p in zip(case["captions"], pictures)]
        assert sum(got) / len(got) == pytest.approx(case["cider_d"], rel=1e-9)


def test_a_caption_cut_off_is_worth_less(deck):
    reward, picture = cider.Reward(deck.pictures), deck.pictures[0]
    whole = facts.words(picture.captions[0])
    ends, breaks_off = whole + [cider.END], whole[:-1]
    assert reward(ends, picture) > reward(breaks_off + [cider.END], picture)
    assert reward(ends, picture) > reward(breaks_off, picture)


def test_weighted_choice():
    import random
    rng, weights = random.Random(0), np.array([8.0, 1.0, 1e-6])
    first = collections.Counter(cards.choose(rng, ["a", "b", "c"], weights, 1)[0] for _ in range(2000))
    assert 0.85 < first["a"] / 2000 < 0.92 and first["c"] < 5
    assert sorted(cards.choose(rng, ["a", "b", "c"], weights, 3)) == ["a", "b", "c"]


@pytest.mark.parametrize("name, article", [("dog", "a dog"), ("orange", "an orange"), ("scissors", "scissors"),
                                           ("broccoli", "some broccoli")])
def test_articles(name, article):
    assert classes.with_article(name) == article


def test_each_class_has_one_everyday_name():
    members = [i for group in names.GROUPS.values() for i in group]
    assert len(members) == len(set(members)) and set(members) <= set(range(1000))


@pytest.mark.parametrize("name, phrase", [("owl", "an owl"), ("jeans", "jeans"), ("soup", "some soup"), ("cup of coffee", "a cup of coffee")])
def test_a_name_in_a_sentence(name, phrase):
    assert names.phrase(name) == phrase


@pytest.fixture(scope="module")
def named():
    class Words:
        """A token a word."""
        def encode(self, text):
            return types.SimpleNamespace(ids=[zlib.crc32(w.encode()) % 5000 for w in text.split()])

    return concepts.Concepts([f"class {i}" for i in range(1000)], Words(), torch.randn(5000, 64, generator=torch.Generator().manual_seed(1)))


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


def test_the_token_points_at_what_is_seen(named):
    imagenet = torch.zeros(2, 1000)
    imagenet[0, [281, 285]] = 0.5
    seen = named.seen(imagenet, [picture("coco/a.jpg"), picture("coco/b.jpg", "dog", "pizza", labels={classes.INDEX["cup"]: True})])
    named_so = [{named.names[i]: round(float(row[i]), 2) for i in row.nonzero()[:, 0]} for row in seen]
    assert named_so == [{"cat": 1.0}, {"dog": 0.8, "pizza": 0.8, "cup": 1.0}]
    visual = torch.randn(2, 32, 64)
    assert named.loss(visual, seen) > 0.5
    told = named.visual(seen, visual)
    assert named.loss(told, seen) < 1e-6 and not told[:, :concepts.TOKEN].any()
    torch.testing.assert_close(told[:, -1].norm(dim=-1), visual[:, -1].norm(dim=-1).mean().expand(2))


def test_undescribed_pictures_are_retold(named):
    sentences = [f"A dog eats a pizza in {place}." for place in ("town", "the park", "a kitchen") * 6] + ["A pizza."] * 20 + \
                ["Two men walk a dog."] * 20 + ["A man walks a dog."] * 20 + ["A zebra."] * (retell.LEAST - 1)
    person = classes.INDEX["person"]
    pictures = [picture("coco/a.jpg", "dog", "pizza"), picture("coco/b.jpg", "dog", "pizza", "bed", captions=["A dog."]),
                picture("coco/c.jpg", "pizza", "cup"), picture("coco/d.jpg", "zebra"), picture("coco/e.jpg", "person", "dog", people=1),
                picture("coco/f.jpg", "person", "dog", people=2), picture("clothing/g.jpg", names=["A hat."], scores=None),
                picture("imagenet1k_sample/n281.jpg", names=["A picture of a tabby."], scores=None)]
    assert pictures[4].present()[person] == 1
    labels = {f"imagenet1k_sample/n{i:03d}.jpg": f"class {i}" for i in range(1000)}
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
