# SPDX-License-Identifier: MIT
"""bench/results/TIER.json as docs/BENCHMARKS.md and docs/benchmarks-TIER.svg."""

import json
import math

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "tinyvlm"  # the same bytes for the same numbers
import matplotlib.pyplot as plt

INTRODUCTION = """# Benchmarks

What `make bench-peers` wrote; do not edit. Medians of {runs} runs, in brackets the least and the most; every system had the same
weights, the same number of threads and the machine to itself, runs in turn (A B C A B C ...), after one to warm up. Outputs were
compared before anything was timed (last table). The last columns are the system's median over tinyvlm's: above 1, tinyvlm is
faster. *Alike*: tinyvlm in f32 beside peers in float, in int8 beside peers in int8. *Default*: what tinyvlm takes by itself
for a model in float (`--precision auto`; [PRECISION.md](PRECISION.md) has its errors) or in blocks.

    {command}

`tinyvlm bench` shows each stage beside the machine's peaks; `make bench-check` compares instruction counts, on
a busy machine too; [SPEED.md](SPEED.md) logs what was tried.
"""
TITLES = {
    "fastvithd-1024": "FastViTHD, 1024 x 1024 (random weights)",
    "efficientnet-lite0-224": "EfficientNet-Lite0, 224 x 224 (the bundled model's tower)",
    "qwen2-0.5b-prefill-decode-q8_0": "Qwen2-0.5B, Q8_0: a prompt of 288, then 16 tokens (random weights)",
    "qwen2-0.5b-prefill-decode-q4_0": "Qwen2-0.5B, Q4_0",
    "qwen2-0.5b-prefill-decode-bf16": "Qwen2-0.5B, bfloat16",
    "smollm2-135m-decode-q4_1": "SmolLM2-135M-Instruct, Q4_1: a prompt of 128, then 64 tokens",
    "smollm2-135m-lookup-q4_1": "The same: answers to 20 questions of bench/prompts.txt, tinyvlm with --lookup",
    "requests-qwen2-0.5b-q8_0": "Qwen2-0.5B, Q8_0: requests side by side, a token of all of them",
    "first-token-fastvlm-0.5b-q4_0": "FastVLM-0.5B, Q4_0, 1024 x 1024: from pixels to the first token (random weights)",
    "first-token-fastvlm-0.5b-q8_0": "FastVLM-0.5B, Q8_0",
    "process-fastvlm-0.5b-q4_0": "FastVLM-0.5B, Q4_0: a whole process, to the first token",
    "process-fastvlm-0.5b-q8_0": "FastVLM-0.5B, Q8_0: a whole process, to the first token",
    "process-tinyvlm-25m": "Tiny-VLM-25M: a whole process, 10 tokens",
}
NAMES = {"avx2": "AVX2", "avx512": "AVX-512"}
TOKENS = {"qwen2": {"prefill": 288, "decode": 1}, "smollm2": {"prefill": 128, "decode": 1}, "requests": {"decode": 1}}
CURVES = {"image-size": ("tower", "FastViTHD, pixels a side", 2), "prompt-size": ("prefill", "SmolLM2-135M Q4_1, prompt tokens", 1)}


def of_group(rows, group, threads, stage):
    return [r for r in rows if (r["group"], r["threads"], r["stage"]) == (group, threads, stage)]


def line(row, ours):
    """`ours`: times by precision, the default's under ""."""
    count = TOKENS.get(row["group"].split("-")[0], {}).get(row["stage"])
    speed = f"{1000 * count / row['median_ms']:.1f} tokens/s" if count else ""
    if "peak_rss_mb" in row:
        speed = f"{row['peak_rss_mb']:.0f} MB at most"
    int8 = "int8" in row["system"]
    alike, default = ours.get("int8" if int8 else "f32"), None if int8 else ours.get("")
    ratios = ["" if row["system"].startswith("tinyvlm") or not t else f"{row['median_ms'] / t:.2f}" for t in (alike, default)]
    time = f"{row['median_ms']:.2f} ({row['min_ms']:.2f} - {row['max_ms']:.2f})"
    return f"| {row['threads']} | {row['stage']} | {row['system']} | {time} | {speed} | {ratios[0]} | {ratios[1]} |"


def table(rows, group):
    out = [f"\n## {TITLES[group]}\n", "| threads | stage | system | ms | | faster: alike | default |", "|---|---|---|---|---|---|---|"]
    for threads in sorted({r["threads"] for r in rows if r["group"] == group}):
        for stage in dict.fromkeys(r["stage"] for r in rows if r["group"] == group):
            here = of_group(rows, group, threads, stage)
            ours = {r["system"].removeprefix("tinyvlm").strip(): r["median_ms"] for r in here if r["system"].startswith("tinyvlm")}
            out += [line(r, ours) for r in here]
    return out


def points(rows, curve, system):
    stage = CURVES[curve][0]
    found = [(int(r["group"].split("-")[-1]), r["median_ms"]) for r in rows
             if r["group"].startswith(curve) and r["stage"] == stage and r["system"] == system]
    return sorted(found)


def exponent(found, power):
    """Of time by pixels or tokens, from the least squares of the logarithms."""
    x, y = [power * math.log(n) for n, _ in found], [math.log(ms) for _, ms in found]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)


def growth(rows):
    out = []
    for curve, (stage, what, power) in CURVES.items():
        for system in dict.fromkeys(r["system"] for r in rows if r["group"].startswith(curve)):
            found = points(rows, curve, system)
            if len(found) > 1:
                sizes = " | ".join(f"{n}: {ms:.1f} ms" for n, ms in found)
                out.append(f"| {what} | {system} | {sizes} | {exponent(found, power):.2f} |")
    columns = max((len(points(rows, c, r["system"])) for c in CURVES for r in rows), default=0)
    head = ["\n## How time grows\n", "The exponent is that of time by pixels or by tokens; 1 is linear. Medians of three runs, 2 threads.\n",
            "| size | system |" + " |" * columns + " exponent |", "|---|---|" + "---|" * columns + "---|"]
    return head + out if out else []


def checks(result):
    out = ["\n## What was compared\n", "Root mean square of the difference from tinyvlm's float32 vision tokens or its logits (EfficientNet: "
           "from PyTorch's map), over that of the value itself.\n", "| group | system | difference | limit |", "|---|---|---|---|"]
    unique = {(c["group"], c["system"]): c for c in result["checks"]}
    return out + [f"| {c['group']} | {c['system']} | {c['error']:.2g} | {c['limit']:g} |" for c in unique.values()]


def machine(result):
    m = result["machine"]
    peaks = "; ".join(f"{name} {p['giga_per_second_1_thread']:.1f} / {p['giga_per_second']:.1f} {'GB/s' if name == 'memory' else 'G operations/s'}"
                      for name, p in m["peaks"].items())
    versions = ", ".join(f"{name} {v}" for name, v in sorted(result["versions"].items()))
    return (f"{m['cpu']}, {m['cores']} cores, with {', '.join(m['has'])}, without {', '.join(m['lacks'])}; {m['system']}. Measured peaks "
            f"with 1 / all threads: {peaks}. {versions}. {result['date']}.")


def draw(rows, path):
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for axis, (curve, (_, what, _)) in zip(axes, CURVES.items()):
        for system in dict.fromkeys(r["system"] for r in rows if r["group"].startswith(curve)):
            found = points(rows, curve, system)
            axis.loglog(*zip(*found), marker="o", label=system)
            axis.set_xticks([n for n, _ in found], [str(n) for n, _ in found])
            axis.minorticks_off()
            axis.legend()
        axis.set_xlabel(what)
        axis.set_ylabel("ms, 2 threads")
        axis.grid(True, which="both", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def section(path, folder):
    """One machine's results."""
    result = json.loads(path.read_text())
    rows, plot = result["rows"], f"benchmarks-{path.stem}.svg"
    lines = [f"\n# A machine with {NAMES.get(path.stem, path.stem)}\n", machine(result), f"\n![Time by size]({plot})"]
    for group in TITLES:
        if any(r["group"] == group for r in rows):
            lines += table(rows, group)
    draw(rows, folder / plot)
    return lines + growth(rows) + checks(result)


def write(results, folder):
    paths = sorted(results.glob("*.json"), reverse=True)
    runs = max(r["runs"] for path in paths for r in json.loads(path.read_text())["rows"])
    lines = [INTRODUCTION.format(runs=runs, command="make bench-peers").rstrip()]
    for path in paths:
        lines += section(path, folder)
    (folder / "BENCHMARKS.md").write_text("\n".join(lines) + "\n")
