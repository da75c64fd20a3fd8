"""The model card of a variant: a skeleton whose numbers are marks, and whose sentences somebody writes once."""

import os

TO_WRITE = "(to be written:"  # a test finds what was not

CARD = f"""# {{title}}

{TO_WRITE} what it is made of, the types of its weights, and when to take it rather than another)

One of the [Tiny-VLM models](MODEL_CARD.md): there are their data and terms, and what they can and cannot do. **Research weights**, not for
commercial use.

<!-- result: {{name}} files -->
<!-- end -->

Training: {TO_WRITE} runs of [RUNS](../train/RUNS.md), time and machine)

## Measured

In the C engine, by `python -m train.report`; [RESULTS](RESULTS.md) has all, beside the other models, with what each column means.

<!-- result: {{name}} questions -->
<!-- end -->

<!-- result: {{name}} kinds -->
<!-- end -->

<!-- result: {{name}} captions -->
<!-- end -->

<!-- result: {{name}} presence -->
<!-- end -->

<!-- result: {{name}} speed -->
<!-- end -->

Of ten prompts that people type first, on 30 photos, <!-- result: {{name}} failed --><!-- end --> answers cannot be an answer to what was asked
(empty, or "yes" to "indoors or outdoors?").

## Failures

{TO_WRITE} what it gets wrong, and what it does better or worse than the one before it)

Of the gallery's photos, five whose description has the fewest words in common with what people wrote (of equals the first):

<!-- result: {{name}} worst -->
<!-- end -->
"""


def path_of(model):
    return f"{model.removesuffix('.gguf')}.md"


def title_of(name):
    """tinyvlm-25m-q4: Tiny-VLM-25M, Q4"""
    family, variant, *rest = name.split("-")
    return ", ".join([f"Tiny-VLM-{variant.upper()}" if family == "tinyvlm" else name, *(part.upper() for part in rest)])


def begin(model):
    """Writes the card of a model file beside it, unless there is one; the path if it did."""
    path = path_of(model)
    if os.path.exists(path):
        return None
    with open(path, "w", encoding="utf-8") as f:
        f.write(CARD.format(title=title_of(os.path.basename(path).removesuffix(".md")), name=os.path.basename(path).removesuffix(".md")))
    return path
