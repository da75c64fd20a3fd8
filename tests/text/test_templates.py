# SPDX-License-Identifier: MIT
"""Chat templates: what is recognised renders to exactly what Jinja makes of it, as transformers runs it."""
import itertools
import random
import struct
import subprocess

import pytest
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from folders import compile_driver

QWEN2 = "You are a helpful assistant."
QWEN2_5 = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SMOLLM2 = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SYSTEMS = {"": "chatml", QWEN2: "qwen2", QWEN2_5: "qwen2.5", SMOLLM2: "smollm2"}
UNSET = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


CONVERSATIONS = [  # those of render_chat.c
    [user("Hello")],
    [{"role": "system", "content": "Be brief. "}, user("Hi\n there"), assistant(" Yes? "), user("é")],
    [user("1"), user("2"), assistant("3"), user(" 4\n\n"), assistant(""), user("")],
    [user("1"), assistant("<think>\nhm\n</think>\n\n2 </think"), user("3")],
    [user("Hi"), assistant("The \n")],  # to be continued
    [{"role": "system", "content": "S"}, user("1"), assistant("2"), user("3"), assistant("")],
]


@pytest.fixture(scope="session")
def recognise(tmp_path_factory):
    path = compile_driver(tmp_path_factory.mktemp("render"), "render_chat")

    def run(templates):
        data = b"".join(struct.pack("=I", len(t.encode())) + t.encode() for t in templates)
        out = subprocess.run([str(path)], input=data, capture_output=True, check=True).stdout
        fields = out.decode().split("\0")[:-1]
        n = 1 + len(CONVERSATIONS)
        assert len(fields) == n * len(templates)
        return [(fields[i], fields[i + 1:i + n]) for i in range(0, len(fields), n)]

    return run


def jinja(template):
    def raise_exception(message):
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    compiled = environment.from_string(template)

    def render(messages):
        last = messages[-1]
        text = compiled.render(messages=messages, add_generation_prompt=last["role"] == "user",
                               bos_token="<s>", eos_token="<|im_end|>")
        # continue_final_message of transformers: up to where the last message's text ends
        return text if last["role"] == "user" else text[:text.rindex("<|im_end|>")]

    return [render(m) for m in CONVERSATIONS]


def one_line():
    """{template: name} in every spelling."""
    known = {}
    for unset, v, nl, pad, dot, merged, system in itertools.product(
            ["", UNSET], ["message", "m", "msg"], ["\n", "\\n"], [" ", ""], range(3), [False, True], SYSTEMS):
        role, content = (f.format(k) for k in ("role", "content") for f in ["['{}']", '["{}"]', ".{}"][dot:dot + 1])
        end = f"'<|im_end|>{nl}'" if merged else f"'<|im_end|>' + '{nl}'"
        first = ("{% if loop.first and messages[0]['role'] != 'system' %}{{" + pad + "'<|im_start|>system" + nl
                 + system + "<|im_end|>" + nl + "'" + pad + "}}{% endif %}") if system else ""
        body = f"{pad}'<|im_start|>' + {v}{role} + '{nl}' + {v}{content} + {end}{pad}"
        known[unset + "{% for " + v + " in messages %}" + first + "{{" + body + "}}{% endfor %}"
              + "{% if add_generation_prompt %}{{ '<|im_start|>assistant" + nl + "' }}{% endif %}"] = SYSTEMS[system]
    return known


def by_role():
    turn = "{{{{ '<|im_start|>{}\n' + message['content'] + '<|im_end|>\n' }}}}"
    return {"{% for message in messages %}{% if message['role'] == 'user' %}" + turn.format("user")
            + "{% elif message['role'] == 'assistant' %}" + turn.format("assistant") + "{% else %}"
            + turn.format("system") + "{% endif %}{% endfor %}"
            + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}": "chatml"}


def several_lines():
    whole = r"""{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
    split = whole.replace(r"""'\n' + message['content']""", r"""'\n' }}
    {{- message['content']""")
    assert split != whole
    return {whole: "chatml", split: "chatml"}


KNOWN = {**one_line(), **by_role(), **several_lines()}
LOOKALIKES = [
    "{{bos_token}}" + next(iter(KNOWN)),
    next(iter(KNOWN)).replace("message['role']", "message['role'] | upper"),
    next(iter(KNOWN)).replace("'<|im_end|>' + '\n'", "'<|im_end|>'"),
    next(iter(KNOWN)).replace("message['content']", "message['content'] | trim"),
    next(iter(KNOWN)).replace("<|im_end|>", "</s>"),
    next(iter(KNOWN)).replace("assistant\n", "assistant"),
    next(iter(KNOWN)).replace("'<|im_start|>' +", "'<|im_start|> ' +"),
    next(iter(KNOWN)) + "{{ eos_token }}",
]


def test_known(recognise):
    for (template, name), (got, rendered) in zip(KNOWN.items(), recognise(KNOWN)):
        assert got == name, template
        assert rendered == jinja(template), template


def test_lookalikes(recognise):
    for template, (got, _) in zip(LOOKALIKES, recognise(LOOKALIKES)):
        assert got == "", template


def test_changed(recognise):
    """A template changed anywhere is recognised only where Jinja still makes the same of it."""
    rng = random.Random(3)
    changed, still = [], 0
    bases = list(KNOWN)
    for _ in range(8000):
        t = rng.choice(bases)
        at = rng.randrange(len(t))
        put = rng.choice(["", " ", "\n", "'", "x", "-", "\\n", t[at].swapcase(), t[rng.randrange(len(t))]])
        changed.append(t[:at] + put + t[at + rng.choice([0, 1, 1, 2]):])
    for template, (got, rendered) in zip(changed, recognise(changed)):
        if got and template not in KNOWN:
            assert rendered == jinja(template), template
            still += 1
    assert still > 5  # spellings of the loop's parts mixed
