"""What is known of each training picture, gathered from captions, questions and the detector.

A fact states a task, its words and the answer; cards.py words it. Presence keeps dense labels of the 80
classes: human answers first, then the detector where it is sure."""

import collections
import re

import numpy as np

import train.classes as classes
import train.corpus as corpus

SURE_YES, SURE_NO = 0.45, 0.08  # detector scores; between them nothing is asked
COUNTED = 0.4                   # a box with this score counts as an object
AGREE = 4                       # of ten answers to a human question
PERSON_WORDS = {"man": {"man", "men", "guy", "guys", "male", "gentleman", "boy", "boys"},
                "woman": {"woman", "women", "lady", "ladies", "female", "girl", "girls"},
                "boy": {"boy", "boys", "man", "men", "guy"}, "girl": {"girl", "girls", "woman", "women", "lady"}}
VAGUE = {"person", "people", "child", "children", "kid", "kids", "player", "players", "someone", "rider", "team",
         "couple", "group", "crowd", "toddler", "baby", "skier", "climber", "biker", "cyclist", "surfer"}
COLOURS = {"red", "blue", "green", "yellow", "black", "white", "brown", "orange", "pink", "purple", "gray", "tan"}
COLOURED = {"shirt", "jacket", "dress", "hat", "coat", "helmet", "pants", "shorts", "dog", "horse", "cat", "car",
            "ball", "bike", "bicycle", "truck", "bus", "motorcycle", "boat", "kayak", "uniform", "sweater",
            "umbrella", "frisbee", "swimsuit", "hair", "toy", "vest", "suit", "skirt", "train", "bird"}
INDOOR_WORDS = {"kitchen", "bedroom", "bathroom", "indoor", "indoors", "couch", "sofa", "bed", "restaurant",
                "office", "carpet", "gym", "classroom", "livingroom"}
OUTDOOR_WORDS = {"grass", "snow", "street", "beach", "field", "ocean", "mountain", "lake", "river", "park", "forest",
                 "woods", "outdoor", "outdoors", "outside", "sky", "sand", "road", "sidewalk", "trail", "hill",
                 "yard", "snowy", "grassy", "sea", "desert", "cliff", "dirt"}
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
PRESENCE = re.compile(r"(?:Is|Are) there (?:an? |some )?(.*) in the picture\?")
COUNT = re.compile(r"How many (.*) are there\?")
COLOUR = re.compile(r"What colou?r is the (.*)\?")
DOING = re.compile(r"What is the (.*) doing\?")
KIND = re.compile(r"What (animal|vehicle|food) is in the picture\?")

Fact = collections.namedtuple("Fact", "task thing answer")  # thing: the words that the wording takes


class Picture:
    def __init__(self, key):
        self.key = key
        self.captions = []      # sentences of people
        self.names = []         # what a picture of one object shows, as a sentence
        self.objects = None     # a list of objects, as a sentence
        self.scores = None      # [80] of the detector
        self.people = None      # counted by the detector
        self.labels = {}        # class -> bool, by people
        self.facts = []         # everything but presence and captions
        self.other_presence = []  # (thing, bool) beyond the 80 classes

    @property
    def source(self):
        return self.key.split("/")[0]

    def present(self):
        """[80] of 1 (yes), 0 (no), -1 (not known)"""
        out = np.full(len(classes.NAMES), -1, np.int8)
        if self.scores is not None:
            out[self.scores >= SURE_YES] = 1
            out[self.scores <= SURE_NO] = 0
        for c, yes in self.labels.items():
            out[c] = yes
        return out


def words(text):
    return re.findall(r"[a-z']+", text.lower())


def gather(root, data, split="train"):
    """{key: Picture}. The detector's rows of other splits are never read."""
    out = {}

    def at(key):
        return out.setdefault(key, Picture(key))

    for row in corpus.captions(root, data, split):
        add_caption(at(row["image"]), row)
    for row in corpus.questions(root, data, split):
        add_question(at(row["image"]), row)
    for key, (scores, boxes) in corpus.detections(root, data, out).items():
        out[key].scores = np.array(scores, np.float32)
        out[key].people = sum(b[0] >= COUNTED for b in boxes.get(classes.INDEX["person"], []))
    for picture in out.values():
        infer(picture)
    return out


def sentence(text):
    text = text.strip().rstrip(".").strip()
    return text[:1].upper() + text[1:] + "."


def add_caption(picture, row):
    texts = [sentence(c) for c in row["captions"] if c.strip()]
    if row["kind"] == "human":
        picture.captions += [t for t in texts if len(words(t)) <= 20]
    elif row["kind"] == "template-from-labels":
        picture.objects = sentence(re.sub(r"^A (photo|picture) of ", "", texts[0]))
    else:
        picture.names.append(sentence(re.sub(r"^A (photo|picture) of ", "", texts[0])))


def add_question(picture, row):
    question, answer = row["question"], row["answers"][0]
    if row.get("agree", AGREE) < AGREE:
        return
    if answer.isdigit() and int(answer) < len(NUMBERS):
        answer = NUMBERS[int(answer)]
    for task, pattern in (("presence", PRESENCE), ("count", COUNT), ("colour", COLOUR), ("doing", DOING), ("kind", KIND)):
        match = pattern.fullmatch(question)
        if match:
            thing = match.group(1)
            break
    else:
        task, thing = ("where", "") if question == "Where was this picture taken?" else ("asked", question)
    if task != "presence":
        picture.facts.append(Fact(task, thing, answer))
    elif thing in classes.INDEX:
        picture.labels[classes.INDEX[thing]] = answer == "yes"
    else:
        picture.other_presence.append((thing, answer == "yes"))


def infer(picture):
    """Facts that follow from what is known: colours, people's words, indoors or outdoors, a list of objects."""
    texts = [set(words(c)) for c in picture.captions]
    if len(texts) >= 3:
        picture.facts += colours(picture)
        picture.other_presence += people_words(texts, picture.other_presence)
    place = setting(picture, texts)
    if place:
        picture.facts.append(Fact("setting", "", place))
    if picture.objects is None and picture.scores is not None:
        present = picture.present()
        seen = [c for c in np.argsort(-picture.scores)[:5] if present[c] == 1]
        if seen:
            picture.objects = sentence(listing([classes.with_article(classes.NAMES[c]) for c in seen]))


def listing(things):
    return things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]


def colours(picture):
    """'red shirt' in a caption, when no caption gives that thing another colour."""
    said = collections.defaultdict(set)
    for caption in picture.captions:
        w = words(caption)
        for colour, thing in zip(w, w[1:]):
            colour = "gray" if colour == "grey" else colour
            if colour in COLOURS and thing in COLOURED:
                said[thing].add(colour)
        for a, thing in zip(w, w[3:]):  # 'a black and white dog' has no one colour
            if a in COLOURS and thing in COLOURED and "and" in w:
                said[thing].add(a)
    known = {f.thing for f in picture.facts if f.task == "colour"}
    return [Fact("colour", t, *c) for t, c in said.items() if len(c) == 1 and t not in known]


def people_words(texts, known):
    """man, woman, boy, girl: yes when two captions say it; no when all speak of other things and none is vague."""
    out, known = [], {t for t, _ in known}
    for thing, similar in PERSON_WORDS.items():
        said = sum(thing in t for t in texts)
        if thing in known:
            continue
        if said >= 2:
            out.append((thing, True))
        elif not any(t & (similar | VAGUE) for t in texts):
            out.append((thing, False))
    return out


def setting(picture, texts):
    inside = sum(bool(t & INDOOR_WORDS) for t in texts) + 2 * (picture.source == "daquar")
    outside = sum(bool(t & OUTDOOR_WORDS) for t in texts)
    for c in np.flatnonzero(picture.present() == 1):
        inside += 2 * (c in classes.INDOORS)
        outside += 2 * (c in classes.OUTDOORS)
    if inside >= 2 and not outside:
        return "indoors"
    return "outdoors" if outside >= 2 and not inside else None
