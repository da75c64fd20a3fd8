"""ImageNet's 1,000 classes in everyday words, those that people rarely tell apart as one."""

import train.classes as classes

GROUPS = {
    "shark": range(2, 5), "bird": [*range(10, 21), *range(80, 84), 85, 86, 91, 95, 127, 128, 131, *range(133, 144)],
    "owl": [24], "salamander": range(25, 30), "frog": range(30, 33), "turtle": range(33, 38), "lizard": range(38, 49),
    "crocodile": [49], "alligator": [50], "dinosaur": [51], "snake": range(52, 69), "spider": range(72, 78),
    "parrot": [87, 88, 90], "cockatoo": [89], "duck": [97, 98], "swan": [100], "elephant": [101, 385, 386],
    "crab": [*range(118, 122), 125], "lobster": [122, 123, 124], "heron": [132], "penguin": [145], "whale": [147, 148], "dog": [*range(151, 269), 275],
    "wolf": range(269, 272), "fox": range(277, 281), "cat": range(281, 286), "bear": [294, 295, 297], "polar bear": [296],
    "beetle": [300, *range(302, 308)], "butterfly": range(321, 327), "rabbit": range(330, 333), "squirrel": [335],
    "horse": [339], "pig": [341], "cow": [345], "sheep": [348, 349], "antelope": range(351, 354), "camel": [354], "sloth": [364],
    "monkey": range(370, 383), "lemur": [383, 384], "panda": [388], "red panda": [387], "fish": [0, *range(389, 393), 394, 395],
    "mushroom": [947, *range(991, 995), 996, 997],
    "airplane": [404], "military airplane": [895], "rooster": [7], "thistle": [946], "teddy bear": [850], "clock": [409, 892], "trash can": [412], "rifle": [413, 764], "bandage": [419],
    "pen": [418, 563], "bathtub": [435, 876], "station wagon": [436], "lighthouse": [437], "beer": [441], "bell tower": [442],
    "tandem bicycle": [444], "taxi": [468], "wheel": [479], "cell phone": [487], "fence": [489, 912, 716], "chainsaw": [491], "mug of coffee": [504],
    "keyboard": [508, 878], "candy": [509], "lock": [507, 695], "helmet": [518, 560], "computer": [527], "telephone": [528, 707],
    "watch": [531], "rug": [533], "dining table": [532], "dog sled": [537], "dome": [538], "oil rig": [540], "weights": [422, 543], "fan": [545],
    "guitar": [402, 546], "train": [466, 547, 705, 565], "steam train": [820], "TV": [548, 598, 851], "fire truck": [555], "bed": [564],
    "pan": [567], "golf cart": [575], "dress": [578, 601, 689], "piano": [579, 881], "hair dryer": [589], "cart": [603, 690], "jeans": [608],
    "shirt": [610], "rickshaw": [612], "lamp": [619, 846], "laptop": [620, 681], "lawn mower": [621], "ship": [510, 628], "shoe": [630, 770],
    "speaker": [632], "medicine cabinet": [648], "standing stones": [649], "bus": [654, 779, 874], "rocket": [657, 744],
    "screen": [664, 782], "motorcycle": [665], "scooter": [670], "bicycle": [671], "tent": [672], "moving truck": [675], "swimsuit": [638, 639, 445],
    "pajamas": [697], "bench": [703], "pickup truck": [717], "camera": [732, 759], "race car": [751], "tennis racket": [752], "camper": [757],
    "ruler": [769], "saxophone": [776], "sailboat": [780, 914, 484, 871], "store": [582, 788, 865, 454, 415, 860, 467], "space shuttle": [812],
    "bridge": [821, 839, 888], "stone wall": [825], "tram": [829], "couch": [831], "temple": [832, 668, 663], "sunglasses": [836, 837],
    "sweatshirt": [841], "swimming trunks": [842], "stage": [819], "sewing machine": [786], "toilet": [861], "truck": [867], "tow truck": [864],
    "sink": [896], "washing machine": [897], "bottle of water": [898], "bottle": [440, 720, 737, 907], "jug": [899, 901], "basket": [588, 790], "skis": [795], "carpenter's plane": [726],
    "street sign": [919], "plate of food": [923], "soup": [809, 925, 926], "popsicle": [929], "bread": [930], "hot dog": [934], "cabbage": [936],
    "squash": range(940, 943), "apple": [948], "pasta": [959], "cup of coffee": [967], "mountain": [970], "cliff": [972], "lake": [975],
    "coast": [976], "beach": [977, 978], "baseball player": [981], "yellow field": [984], "flower": [986], "chestnut": [990], "toilet paper": [999, 700],
}


def everyday(labels):
    """Class names in the order of their ids, or none -> the name of each in everyday words."""
    out = list(labels)
    for name, members in GROUPS.items() if out else ():
        for i in members:
            out[i] = name
    return out


def phrase(name):
    plural = name in ("jeans", "pajamas", "sunglasses", "swimming trunks", "weights", "standing stones")
    return name if plural else ("some " + name if name in ("candy", "pasta", "bread", "broccoli", "soup", "toilet paper") else classes.with_article(name))
