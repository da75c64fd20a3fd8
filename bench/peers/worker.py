# SPDX-License-Identifier: MIT
"""A peer in a process of its own: says what it computed, then makes a run for each line of standard input.

    worker.py tower SYSTEM MODEL.gguf INPUT.npy OUT.npy --threads N      SYSTEM: onnxruntime, onnxruntime-int8, openvino,
                                                                         openvino-int8, openvino-bf16, torch, torch-bf16
    worker.py decoder SYSTEM MODEL.gguf IDS.npy OUT.npy --threads N --prompt N --tokens N   SYSTEM: llama.cpp, torch, torch-bf16
    worker.py answers llama.cpp MODEL.gguf PROMPTS.npz OUT.npy --threads N --tokens N

The first line on standard output is {"version": ...} once OUT.npy is there, each further one {"ms": {stage: ...}}."""

import argparse
import json
import pathlib
import sys
import time

import numpy as np


def now():
    return time.perf_counter() * 1e3


def exported(model, pixels):
    """The model's tower as ONNX, made once."""
    path = model.with_suffix(".onnx")
    if not path.exists():
        import torch

        import nets

        part = path.with_suffix(".onnx.part")
        torch.onnx.export(nets.tower_of(model), torch.from_numpy(pixels), str(part), input_names=["pixels"],
                          output_names=["out"], opset_version=17, dynamo=False)
        part.rename(path)
    return path


def quantized(model, pixels):
    """The same in int8: weights per channel, activations calibrated, as QDQ operators that both runtimes fuse."""
    path = model.with_suffix(".int8.onnx")
    if not path.exists():
        from onnxruntime import quantization as q
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(q.CalibrationDataReader):
            left = [pixels, pixels[:, :, ::-1].copy(), pixels[:, :, :, ::-1].copy(), 1 - pixels]

            def get_next(self):
                return {"pixels": self.left.pop()} if self.left else None

        part = path.with_suffix(".part")
        quant_pre_process(str(exported(model, pixels)), str(part))
        q.quantize_static(str(part), str(path), Reader(), q.QuantFormat.QDQ, per_channel=True,
                          activation_type=q.QuantType.QUInt8, weight_type=q.QuantType.QInt8, reduce_range=True)
        part.unlink()
    return path


def onnxruntime_tower(args, pixels, int8):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    path = (quantized if int8 else exported)(args.model, pixels)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return ort.__version__, lambda: session.run(None, {"pixels": pixels})[0]


def openvino_tower(args, pixels, kind):
    import openvino as ov

    path = (quantized if kind == "int8" else exported)(args.model, pixels)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": args.threads, "NUM_STREAMS": 1}
    settings["INFERENCE_PRECISION_HINT"] = "bf16" if kind == "bf16" else "f32"
    request = ov.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return ov.__version__, lambda: np.array(request.infer({0: pixels})[0])


def torch_tower(args, pixels, bf16):
    import torch

    import nets

    torch.set_num_threads(args.threads)
    x = torch.from_numpy(pixels).to(memory_format=torch.channels_last)
    net = nets.tower_of(args.model).to(memory_format=torch.channels_last)
    if bf16:
        net, x = net.bfloat16(), x.bfloat16()
    with torch.inference_mode():
        net = torch.jit.freeze(torch.jit.trace(net, x))

    def run():
        with torch.inference_mode():
            return net(x).float().numpy()

    return torch.__version__, run


def make_tower(args):
    pixels = np.load(args.input)
    system, _, kind = args.system.partition("-")
    if system == "onnxruntime":
        version, run = onnxruntime_tower(args, pixels, kind == "int8")
    elif system == "openvino":
        version, run = openvino_tower(args, pixels, kind)
    else:
        version, run = torch_tower(args, pixels, kind == "bf16")
    np.save(args.out, run())

    def timed():
        begin = now()
        run()
        return {"tower": now() - begin}

    return version, timed


# ---- decoders ----


class LlamaCpp:
    """The library itself, without what Python adds to a step."""

    def __init__(self, args):
        import llama_cpp as l

        self.l, self.version = l, l.__version__
        self.log = l.llama_log_callback(lambda *_: None)  # silent; kept from the collector
        l.llama_log_set(self.log, None)
        l.llama_backend_init()
        model = l.llama_model_load_from_file(str(args.model).encode(), l.llama_model_default_params())
        p = l.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch = args.prompt + args.tokens + 64, max(args.prompt, 512), 512
        p.n_threads = p.n_threads_batch = args.threads
        self.context = l.llama_init_from_model(model, p)
        self.tokens = l.llama_model_get_vocab(model)
        self.vocab = l.llama_vocab_n_tokens(self.tokens)

    def ends(self, token):
        return self.l.llama_vocab_is_eog(self.tokens, token)

    def reset(self):
        self.l.llama_memory_clear(self.l.llama_get_memory(self.context), True)

    def feed(self, ids):
        tokens = (self.l.llama_token * len(ids))(*ids)
        if self.l.llama_decode(self.context, self.l.llama_batch_get_one(tokens, len(ids))):
            sys.exit("llama_decode failed")
        return np.ctypeslib.as_array(self.l.llama_get_logits_ith(self.context, -1), (self.vocab,))


class Torch:
    def __init__(self, args):
        import torch

        import nets

        torch.set_num_threads(args.threads)
        self.torch, self.version = torch, torch.__version__
        self.net = nets.Qwen2(args.model, torch.bfloat16 if args.system == "torch-bf16" else torch.float32)
        self.vocab = len(self.net.w["token_embd.weight"])

    def reset(self):
        self.net.cache.clear()

    def feed(self, ids):
        with self.torch.inference_mode():
            return self.net(self.torch.tensor(ids)).float().numpy()


def make_decoder(args):
    system = LlamaCpp(args) if args.system == "llama.cpp" else Torch(args)
    np.save(args.out, system.feed(np.load(args.ids).tolist()))
    ids = [i * 37 % system.vocab for i in range(args.prompt)]  # as `tinyvlm bench` has them

    def timed():
        system.reset()
        begin = now()
        logits = system.feed(ids)
        prefill, begin = now() - begin, now()
        for _ in range(args.tokens - 1):
            logits = system.feed([int(logits.argmax())])
        return {"prefill": prefill, "decode": (now() - begin) / max(1, args.tokens - 1)}

    timed()  # to warm up
    return system.version, timed


def make_answers(args):
    """Greedy answers to all prompts, to their ends; the time is that of a token after the first."""
    system, prompts = LlamaCpp(args), [p.tolist() for p in np.load(args.ids).values()]
    np.save(args.out, system.feed(prompts[0]))

    def timed():
        ms, n = 0.0, 0
        for prompt in prompts:
            system.reset()
            token, begin = int(system.feed(prompt).argmax()), now()
            for _ in range(args.tokens - 1):
                if system.ends(token):
                    break
                token, n = int(system.feed([token]).argmax()), n + 1
            ms += now() - begin
        return {"decode": ms / n}

    return system.version, timed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    tower, decoder, answers = (kinds.add_parser(k) for k in ("tower", "decoder", "answers"))
    for p in (tower, decoder, answers):
        p.add_argument("system")
        p.add_argument("model", type=pathlib.Path)
        p.add_argument("--threads", type=int, required=True)
    tower.add_argument("input", type=pathlib.Path)
    for p in (decoder, answers):
        p.add_argument("ids", type=pathlib.Path)
        p.add_argument("--tokens", type=int, required=True)
    decoder.add_argument("--prompt", type=int, required=True)
    answers.set_defaults(prompt=512)  # the longest
    for p in (tower, decoder, answers):
        p.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    said, sys.stdout = sys.stdout, sys.stderr  # libraries print too
    make = {"tower": make_tower, "decoder": make_decoder, "answers": make_answers}[args.kind]
    version, timed = make(args)
    print(json.dumps({"version": version}), file=said, flush=True)
    for _ in sys.stdin:
        print(json.dumps({"ms": timed()}), file=said, flush=True)


if __name__ == "__main__":
    main()
