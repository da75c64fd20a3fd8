"""What the pictures teach: nothing of test pictures, balanced answers, the same cards after a restart."""

import collections
import json
from pathlib import Path

import numpy as np
import pytest

from train import cards, cider, classes, facts, wording


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
