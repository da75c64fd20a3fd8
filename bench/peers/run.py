#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tinyvlm beside its peers: the same weights, the same threads, runs in turn (A B C A B C ...), outputs compared.

    make bench-peers                        everything; writes bench/results/TIER.json, docs/BENCHMARKS.md and its plot
    make bench-peers ONLY="decode prefill"  the groups whose names contain one of these words; the others keep their results
    bench/peers/run.py --list               names of the groups

Nothing else may run on the machine meanwhile."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import load_file

import models
import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAM = ROOT / "build" / "tinyvlm"
PHOTO = ROOT / "examples" / "photos" / "dandelion.jpg"
PROMPTS = ROOT / "bench" / "prompts.txt"
RESULTS = ROOT / "bench" / "results"  # a file for each tier of the CPU
TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun until evening."
LARGEST_ERROR = {"tower": 1e-4, "default": 5e-3, "tower-int8": 0.5, "decoder": 0.1, "bf16": 0.1}  # root mean squares
PAUSE_S = 0.1  # lets threads that spin after a run go to sleep


class System:
    """A process that makes a run for each line that it is sent."""

    def __init__(self, name, command, answers_first):
        self.name, self.version, self.errors = name, None, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        if answers_first:
            self.version = self.answer()["version"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name}: {self.errors.read()[-2000:]}")
        return json.loads(line)

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Chain:
    """Peers one after another, as an application would join them; their times add up."""

    def __init__(self, name, stage, *systems):
        self.name, self.stage, self.systems = name, stage, systems

    def run(self):
        return {self.stage: sum(sum(s.run().values()) for s in self.systems)}

    def close(self):
        for s in self.systems:
            s.close()


class Answers:
    """tinyvlm's own answers to questions: a run is all of them, its time that of a token after the first."""

    def __init__(self, name, model, threads, prompts, tokens, *options):
        self.name, self.prompts, self.texts = name, prompts, []
        self.command = [str(c) for c in (PROGRAM, "chat", "-m", model, "-t", threads, "-n", tokens, "-q", "--json", *options)]

    def run(self):
        ms, tokens, self.texts = 0.0, 0, []
        for prompt in self.prompts:
            out = subprocess.run(self.command, input=prompt, capture_output=True, text=True, check=True).stdout
            answer = json.loads(out.splitlines()[0])
            ms += answer["timings_ms"]["generate"] - answer["timings_ms"]["first_token"]
            tokens += answer["tokens"] - 1
            self.texts.append(answer["text"])
        return {"decode": ms / tokens}

    def close(self):
        pass


def in_turn(systems, runs):
    """{system: {stage: [ms]}}"""
    times = {s.name: {} for s in systems}
    for s in systems:
        s.run()  # to warm up
    for _ in range(runs):
        for s in systems:
            time.sleep(PAUSE_S)
            for stage, ms in s.run().items():
                times[s.name].setdefault(stage, []).append(ms)
    return times


class Bench:
    def __init__(self, args):
        self.args, self.rows, self.checks, self.versions = args, [], [], {"tinyvlm": version()}
        self.work = ROOT / "build" / "bench" / "work"
        self.work.mkdir(parents=True, exist_ok=True)
        self.models = models.Models(ROOT / "build" / "bench" / "models", PROGRAM)
        self.machine = machine()

    def ours(self, model, threads, *options, name="tinyvlm"):
        return System(name, [PROGRAM, "bench", "--step", "-q", "-m", model, "-t", threads, *options], False)

    def peer(self, kind, system, threads, model, *rest):
        out = self.work / f"{system}.npy"
        s = System(system, [sys.executable, HERE / "worker.py", kind, system, model, *rest[:1], out,
                            "--threads", threads, *rest[1:]], True)
        self.versions[system.split("-")[0]] = s.version
        return s, np.load(out)

    def record(self, group, threads, times, stages, runs):
        for system, by_stage in times.items():
            for stage in stages:
                if stage in by_stage:
                    ms = sorted(by_stage[stage])
                    self.rows.append(dict(group=group, system=system, threads=threads, stage=stage, runs=runs,
                                          median_ms=statistics.median(ms), min_ms=ms[0], max_ms=ms[-1]))

    def compare(self, group, system, got, want, limit):
        """Root mean square of the difference over that of what it is compared with."""
        error = float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want))
        self.checks.append(dict(group=group, system=system, error=error, limit=limit))
        if not error <= limit:
            raise RuntimeError(f"{group}: {system} is off by {error:.3g}, more than {limit}")

    def measure(self, group, threads, systems, stages, runs=None):
        try:
            runs = runs or self.args.runs
            self.record(group, threads, in_turn(systems, runs), stages, runs)
        finally:
            for s in systems:
                s.close()

    # ---- groups ----

    def dump(self, model, *options):
        out = self.work / "dump.safetensors"
        subprocess.run([PROGRAM, "dump", "-m", model, "-q", "-o", out, "--new-tokens", "0", *options], check=True)
        return load_file(out)

    def pixels(self, tensors):
        """[S][S][3] or [3][S][S], as the networks take them."""
        pixels = tensors["pixel_values"]
        pixels = pixels if pixels.shape[-3] == 3 else np.moveaxis(pixels, -1, -3)
        path = self.work / "pixels.npy"
        np.save(path, np.ascontiguousarray(pixels.reshape(1, 3, *pixels.shape[-2:]), np.float32))
        return path

    def fastvithd(self, group, threads):
        image = int(group.split("-")[1])
        model = self.models.tower(image)
        tensors = self.dump(model, "--image", PHOTO, "-p", "x", "--precision", "f32")
        pixels, want, systems = self.pixels(tensors), tensors["vision_tokens"], []
        systems.append(self.ours(model, threads, "-n", 1, "--precision", "f32", PHOTO, name="tinyvlm f32"))
        for name, precision, limit in [("tinyvlm", "auto", "default"), ("tinyvlm int8", "int8", "bf16")]:
            got = self.dump(model, "--image", PHOTO, "-p", "x", "--precision", precision)["vision_tokens"]
            self.compare(group, name, got, want, LARGEST_ERROR[limit])
            systems.append(self.ours(model, threads, "-n", 1, "--precision", precision, PHOTO, name=name))
        for system in ["onnxruntime", "openvino", "torch"] + (["openvino-bf16"] if has("avx512_bf16") else []):
            s, got = self.peer("tower", system, threads, model, pixels)
            self.compare(group, system, got.reshape(want.shape), want, LARGEST_ERROR["bf16" if "bf16" in system else "tower"])
            systems.append(s)
        self.measure(group, threads, systems, ["tower"])

    def efficientnet(self, group, threads):
        floats, int8 = self.models.tinyvlm("f32"), self.models.tinyvlm("int8")
        pixels = self.pixels(self.dump(floats, "--image", PHOTO, "-p", "x"))
        systems = [self.ours(floats, threads, "-n", 1, "--precision", "f32", PHOTO, name="tinyvlm f32"),
                   self.ours(floats, threads, "-n", 1, PHOTO),
                   self.ours(int8, threads, "-n", 1, PHOTO, name="tinyvlm int8")]
        want = None
        for system in ["torch", "onnxruntime", "openvino", "onnxruntime-int8", "openvino-int8"]:
            s, got = self.peer("tower", system, threads, floats, pixels)
            want = got if want is None else want
            self.compare(group, system, got, want, LARGEST_ERROR["tower-int8" if "int8" in system else "tower"])
            systems.append(s)
        self.measure(group, threads, systems, ["tower"])

    def decoder(self, group, threads, model, peers, prompt, tokens, runs=None):
        tensors = self.dump(model, "-p", TEXT, "--prompt-raw")
        ids = self.work / "ids.npy"
        np.save(ids, tensors["input_ids"].reshape(-1))
        systems = [self.ours(model, threads, "-n", tokens, "--prompt-tokens", prompt, "-c", prompt + tokens + 64)]
        for system in peers:
            s, got = self.peer("decoder", system, threads, model, ids, "--prompt", prompt, "--tokens", tokens)
            self.compare(group, system, got, tensors["logits"][-1], LARGEST_ERROR["decoder"])
            systems.append(s)
        self.measure(group, threads, systems, ["prefill", "decode"], runs)

    def qwen2(self, group, threads):
        kind = group.split("-")[-1]
        peers = ["llama.cpp"] + (["torch-bf16" if has("avx512_bf16") else "torch"] if kind == "bf16" else [])
        self.decoder(group, threads, self.models.qwen2(kind), peers, 288, 17)

    def smollm2(self, group, threads):
        self.decoder(group, threads, self.models.smollm2(), ["llama.cpp"], 128, 65)

    def lookup(self, group, threads):
        """Answers to natural questions, ours with and without guessing ahead."""
        model, prompts, tokens = self.models.smollm2(), PROMPTS.read_text().splitlines(), 100
        asked = [self.dump(model, "-p", p) for p in prompts]
        ids = self.work / "prompts.npz"
        np.savez(ids, *[a["input_ids"].reshape(-1) for a in asked])
        ours = Answers("tinyvlm", model, threads, prompts, tokens, "--lookup")
        plain = Answers("tinyvlm plain", model, threads, prompts, tokens)
        llama, got = self.peer("answers", "llama.cpp", threads, model, ids, "--tokens", tokens)
        self.compare(group, "llama.cpp", got, asked[0]["logits"][-1], LARGEST_ERROR["decoder"])
        self.measure(group, threads, [ours, plain, llama], ["decode"], 3)
        if ours.texts != plain.texts:
            raise RuntimeError(f"{group}: answers with --lookup differ")

    def first_token(self, group, threads):
        """Beside the fastest tower and llama.cpp, joined: its decoder on a prompt as long as the picture's tokens and a question."""
        kind = group.split("-")[-1]
        tower, decoder = self.models.tower(1024), self.models.qwen2(kind)
        tensors = self.dump(tower, "--image", PHOTO, "-p", "x", "--precision", "f32")
        ids = self.work / "ids.npy"
        np.save(ids, self.dump(decoder, "-p", TEXT, "--prompt-raw")["input_ids"].reshape(-1))
        vision, _ = self.peer("tower", "openvino-bf16" if has("avx512_bf16") else "openvino", threads, tower, self.pixels(tensors))
        language, _ = self.peer("decoder", "llama.cpp", threads, decoder, ids, "--prompt", 288, "--tokens", 1)
        systems = [self.ours(self.models.fastvlm(kind), threads, "-n", 2, PHOTO),
                   Chain(f"{vision.name} + llama.cpp", "first_token", vision, language)]
        self.measure(group, threads, systems, ["preprocess", "tower", "bridge", "prefill", "first_token"])

    def requests(self, group, threads):
        """Answers side by side; the time is that of a token of all of them."""
        model = self.models.qwen2(group.split("-")[-1])
        systems = [self.ours(model, threads, "-n", 33, "--prompt-tokens", 16, "--requests", n, name=f"tinyvlm, requests: {n}")
                   for n in (1, 2, 4, 8)]
        self.measure(group, threads, systems, ["decode"])

    def image_size(self, group, threads):
        model = self.models.tower(int(group.split("-")[-1]))
        self.measure(group, threads, [self.ours(model, threads, "-n", 1, PHOTO)], ["tower"], 3)

    def prompt_size(self, group, threads):
        self.decoder(group, threads, self.models.smollm2(), ["llama.cpp"], int(group.split("-")[-1]), 1, 3)

    def whole_process(self, group, threads, model, tokens):
        """From the start of the program to its end, and the most memory that it held."""
        command = [str(c) for c in (PROGRAM, "describe", "-m", model, "-t", threads, "-n", tokens, "--beams", 1, "-q", PHOTO)]
        ms, peak = [], 0
        for _ in range(self.args.runs + 1):
            done = subprocess.run([sys.executable, "-I", "-S", HERE / "process.py", *command], check=True, capture_output=True)
            result = json.loads(done.stdout)
            if result["status"]:
                raise RuntimeError(f"{group}: exit status {result['status']}: {done.stderr.decode()[-2000:]}")
            ms.append(result["ms"])
            peak = max(peak, result["peak_mb"])
        self.record(group, threads, {"tinyvlm": {"process": ms[1:]}}, ["process"], self.args.runs)
        self.rows[-1]["peak_rss_mb"] = peak

    def process(self, group, threads):
        kind = group.split("-")[-1]
        if kind == "25m":
            self.whole_process(group, threads, self.models.tinyvlm("int8"), 10)
        else:
            self.whole_process(group, threads, self.models.fastvlm(kind), 1)


GROUPS = {  # name: (method, threads)
    "fastvithd-1024": (Bench.fastvithd, [1, 2]),
    "efficientnet-lite0-224": (Bench.efficientnet, [1, 2]),
    "qwen2-0.5b-prefill-decode-q8_0": (Bench.qwen2, [1, 2]),
    "qwen2-0.5b-prefill-decode-q4_0": (Bench.qwen2, [1, 2]),
    "qwen2-0.5b-prefill-decode-bf16": (Bench.qwen2, [1, 2]),
    "smollm2-135m-decode-q4_1": (Bench.smollm2, [1, 2]),
    "smollm2-135m-lookup-q4_1": (Bench.lookup, [2]),
    "requests-qwen2-0.5b-q8_0": (Bench.requests, [2]),
    "first-token-fastvlm-0.5b-q4_0": (Bench.first_token, [2]),
    "first-token-fastvlm-0.5b-q8_0": (Bench.first_token, [2]),
    "process-fastvlm-0.5b-q4_0": (Bench.process, [1]),
    "process-fastvlm-0.5b-q8_0": (Bench.process, [1]),
    "process-tinyvlm-25m": (Bench.process, [1]),
    **{f"image-size-{n}": (Bench.image_size, [2]) for n in (256, 512, 1024, 1536)},
    **{f"prompt-size-{n}": (Bench.prompt_size, [2]) for n in (64, 256, 1024, 4096)},
}


def has(flag):
    return flag in pathlib.Path("/proc/cpuinfo").read_text().split()


def tier():
    """The widest vectors that programs find here."""
    return "avx512" if has("avx512f") else "avx2" if has("avx2") else platform.machine()


def version():
    commit = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return f"{subprocess.run([PROGRAM, '--version'], capture_output=True, text=True, check=True).stdout.split()[1]} ({commit})"


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    peaks = subprocess.run([PROGRAM, "bench", "--json", "-q", "--runs", "1"], capture_output=True, text=True, check=True)
    return dict(
        cpu=re.search(r"^model name\s*: (.*)$", info, re.M)[1],
        cores=os.cpu_count(),
        has=[f for f in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16") if has(f)],
        lacks=[f for f in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16") if not has(f)],
        system=platform.platform(),
        peaks=json.loads(peaks.stdout)["peaks"],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], help="words: groups whose names contain one")
    parser.add_argument("--threads", type=int, nargs="*", help="of the groups' own, these")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / f"{tier()}.json")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    chosen = [name for name in GROUPS if any(word in name for word in args.only or [""])]
    if args.list:
        print("\n".join(chosen))
        return
    bench, begin, done = Bench(args), time.monotonic(), []
    for name in chosen:
        method, counts = GROUPS[name]
        for threads in [t for t in counts if not args.threads or t in args.threads]:
            since = time.monotonic()
            method(bench, name, threads)
            done.append((name, threads))
            print(f"{name}, {threads} threads: {time.monotonic() - since:.0f} s", flush=True)
            save(bench, args.out, done, time.monotonic() - begin)
    report.write(RESULTS, ROOT / "docs")


def save(bench, path, done, seconds):
    """The results of the groups that were run take the place of their old ones."""
    old = json.loads(path.read_text()) if path.exists() else {}
    names = {name for name, _ in done}
    keep = [r for r in old.get("rows", []) if (r["group"], r["threads"]) not in done]
    checks = [c for c in old.get("checks", []) if c["group"] not in names]
    result = dict(
        date=datetime.date.today().isoformat(),
        seconds=round(seconds),
        machine=bench.machine,
        versions={**old.get("versions", {}), **bench.versions},
        rows=keep + bench.rows,
        checks=checks + bench.checks,
    )
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
