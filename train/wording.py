"""How people word each task. The first wording of a list is the canonical one and is drawn most."""

CANONICAL_SHARE = 0.6  # of draws; the rest is spread over the other wordings
PLAIN_SHARE = 0.12     # of draws: lower case, no final punctuation

DESCRIBE = ["Describe the image.", "Describe", "Describe this picture.", "describe the photo", "What is this?",
            "What do you see?", "what is in the picture", "What is in this image?", "What is happening here?",
            "caption", "Caption this image.", "Write a caption for this photo.", "Tell me about this picture."]
OBJECTS = ["What objects are in the image?", "what objects are visible", "What objects do you see?",
           "List the objects.", "Which objects are there?", "What things are in the picture?",
           "Name the objects in this photo.", "objects"]
PRESENCE = ["{be} there {thing} in the picture?", "{be} there {thing} in the image?", "{be} there {thing}",
            "{be} there {thing} in this photo?", "Do you see {thing}?", "Can you see {thing} in the picture?",
            "{be} there {thing} here?", "Does the picture show {thing}?"]
COUNT = ["How many {thing} are there?", "How many {thing} are in the picture?", "How many {thing} do you see?",
         "how many {thing}", "Count the {thing}.", "How many {thing} are in this image?",
         "What is the number of {thing}?", "How many {thing} can you see?"]
COLOUR = ["What color is the {thing}?", "What colour is the {thing}?", "what is the color of the {thing}",
          "Which color is the {thing}?", "What is the colour of the {thing}?", "which colour is the {thing}",
          "Tell me the color of the {thing}.", "color of the {thing}"]
DOING = ["What is the {thing} doing?", "what's the {thing} doing", "What does the {thing} do?",
         "What is the {thing} up to?", "Tell me what the {thing} is doing.", "What is this {thing} doing?",
         "What is the {thing} doing in the picture?", "What is the {thing} doing here?"]
WHERE = ["Where was this picture taken?", "Where was this photo taken?", "Where is this?", "where is it",
         "What place is this?", "Where was the image taken?", "What is the setting?", "Where are we?"]
KIND = ["What {thing} is in the picture?", "What {thing} is this?", "Which {thing} is in the picture?",
        "What kind of {thing} is this?", "what {thing} is it", "Which {thing} is this?",
        "What {thing} do you see?", "What {thing} is in the image?"]
SETTING = ["Is this indoors or outdoors?", "indoors or outdoors?", "Is the picture taken indoors or outdoors?",
           "Is it indoors or outdoors", "Was this photo taken inside or outside?", "inside or outside?",
           "Is this scene indoors or outdoors?", "Are they indoors or outdoors?"]
INDOORS = ["Is this indoors?", "Is this inside?", "Was this picture taken indoors?", "Is it indoors"]
OUTDOORS = ["Is this outdoors?", "Is this outside?", "Was this picture taken outdoors?", "Is it outdoors"]
READ = ["Read the text.", "read the text in the image", "What does the sign say?", "What does it say?",
        "What is written here?", "Can you read the text?", "What is the text in the image?", "ocr"]
UNKNOWABLE = ["Who is this?", "What is his name?", "What is her name?", "What time is it?", "How old is he?",
              "How old is she?", "Who took this picture?", "When was this picture taken?", "What year is it?",
              "Which city is this?", "What are they thinking?", "How much does it cost?", "What will happen next?",
              "What is the phone number?", "What is the temperature?"]
GREETING = ["Hello", "hi", "Hello!", "hey", "Hi there"]

CANT_READ, CANT_TELL, HELLO = "I can't read text.", "I can't tell.", "Hello! Ask me about the picture."


def draw(rng, wordings, **words):
    """One wording, the first one most often, filled in and sometimes typed carelessly."""
    text = wordings[0] if rng.random() < CANONICAL_SHARE else rng.choice(wordings[1:])
    return careless(rng, text.format(**words))


def careless(rng, text):
    return text.lower().rstrip("?.!") if rng.random() < PLAIN_SHARE else text
