"""The 80 classes of COCO in the detector's order, as a sentence says them."""

NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,"
    "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,"
    "surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,"
    "broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,TV,laptop,"
    "mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,"
    "teddy bear,hair drier,toothbrush").split(",")
INDEX = {name: i for i, name in enumerate(NAMES)}
PLURAL_ONLY = {"skis", "scissors"}
UNCOUNTED = {"broccoli"}
INDOORS = {INDEX[n] for n in ("couch", "bed", "toilet", "TV", "microwave", "oven", "toaster", "sink",
                              "refrigerator", "keyboard", "mouse", "toothbrush", "hair drier")}
OUTDOORS = {INDEX[n] for n in ("airplane", "train", "boat", "traffic light", "fire hydrant", "stop sign",
                               "parking meter", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
                               "skis", "snowboard", "kite", "surfboard")}


def with_article(name):
    if name in UNCOUNTED:
        return "some " + name
    if name in PLURAL_ONLY:
        return name
    return ("an " if name[0] in "aeiou" else "a ") + name
