"""Tiny-VLM in a GGUF file: read to go on training from one, written to run in the engine."""

import re

import gguf
import numpy as np
import torch

import train.model as model
import train.tokenizer as tokenizer
import train.tower as tower
import train.wording as wording

CHAT_TEMPLATE = ("{% for message in messages %}{% if message['role'] == 'user' %}"
                 "{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}"
                 "{% else %}{{ ' ' + message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}")
DESCRIBE_BEAMS = 3  # RUNS.md: five were no better
LICENCE = {"all": "research-only weights (see the model card)", "permissive": "apache-2.0"}
DESCRIPTION = {
    "all": "Research weights: EfficientNet-Lite0 and SmolLM2-135M-Instruct layers (both Apache-2.0) "
           "trained on Flickr8k, COCO, DAQUAR and ImageNet sample pictures and Flickr30k sentences (non-commercial "
           "research terms) and on permissive pictures (tf_flowers, trashnet, COCO CC BY, clothing dataset).",
    "permissive": "EfficientNet-Lite0 and SmolLM2-135M-Instruct layers (both Apache-2.0) trained on "
                  "tf_flowers (CC BY 2.0), trashnet (MIT), COCO pictures under CC BY and the "
                  "clothing dataset (CC0)."}


def values(stored, name):
    """Tensor `name` of {name: the reader's tensor}, of any type, as float32; rows of an int8 tower times their scales."""
    t = stored[name]
    if t.tensor_type != gguf.GGMLQuantizationType.I8:
        return torch.from_numpy(np.array(gguf.dequantize(t.data, t.tensor_type), np.float32))
    rows = torch.from_numpy(np.array(t.data, np.float32))
    return rows * values(stored, name.removesuffix("weight") + "scale").view(-1, *[1] * (rows.dim() - 1))


def name_of(parameter):
    """The name in a file of a parameter of model.TinyVLM."""
    return re.sub(r"^top\.", "v.", re.sub(r"^(pool|names)\.", r"mm.\1.", parameter))


def read(path):
    """-> (network, tokens, merges) of a file of any type. Of the tower only its top is read. Shapes are those of model.py."""
    reader = gguf.GGUFReader(path)
    tokens, merges = (reader.fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges"))
    stored = {t.name: t for t in reader.tensors}
    called = reader.fields["tinyvlm.names"].contents() if "tinyvlm.names" in reader.fields else None
    net = model.TinyVLM(len(tokens), int(reader.fields["tinyvlm.block_count"].contents()), called)
    net.load_state_dict({name: values(stored, name_of(name)).view(p.shape) for name, p in net.state_dict().items()})
    return net, tokens, merges


def write(path, net, tokens, merges, variant, data):
    w = gguf.GGUFWriter(path, "tinyvlm")
    w.data_alignment = 64
    w.add_uint32("general.alignment", 64)
    w.add_string("general.name", f"Tiny-VLM-{variant.upper()}")
    w.add_string("general.license", LICENCE[data])
    w.add_string("general.description", DESCRIPTION[data])
    for key, value in {"block_count": len(net.blk), "context_length": model.CONTEXT,
                       "embedding_length": model.D, "feed_forward_length": model.FF,
                       "attention.head_count": model.HEADS, "attention.head_count_kv": model.KV_HEADS,
                       "vocab_size": len(tokens), "pool.head_count": model.HEADS}.items():
        w.add_uint32("tinyvlm." + key, value)
    w.add_float32("tinyvlm.attention.layer_norm_rms_epsilon", model.RMS_EPS)
    w.add_float32("tinyvlm.rope.freq_base", model.ROPE_THETA)
    w.add_float32("tinyvlm.pool.layer_norm_epsilon", model.LN_EPS)
    w.add_string("tinyvlm.chat_template", "tinyvlm")
    w.add_string("tinyvlm.describe_prompt", wording.DESCRIBE[0])
    w.add_uint32("tinyvlm.describe_beams", DESCRIBE_BEAMS)
    w.add_array("tinyvlm.names", net.names.called)
    w.add_string("vision.tower", "efficientnet_lite")
    w.add_uint32("vision.image_size", tower.SIZE)
    w.add_string("vision.preprocess.mode", "squash")
    w.add_string("vision.preprocess.filter", "bicubic")
    for key, value in (("scale", 1 / 128), ("bias", -127 / 128)):
        w.add_key_value(f"vision.preprocess.{key}", [value] * 3, gguf.GGUFValueType.ARRAY,
                        sub_type=gguf.GGUFValueType.FLOAT64)
    w.add_array("vision.efficientnet.strides", tower.STRIDES)
    w.add_uint32("vision.efficientnet.stem_stride", tower.STEM_STRIDE)
    w.add_array("vision.efficientnet.taps", [tower.TAP])
    w.add_string("tokenizer.ggml.model", "gpt2")
    w.add_string("tokenizer.ggml.pre", "smollm")
    w.add_token_list(tokens)
    w.add_token_types([3 if t in tokenizer.SPECIALS else 1 for t in tokens])
    w.add_token_merges(merges)
    w.add_uint32("tokenizer.ggml.bos_token_id", tokens.index(tokenizer.START))
    w.add_uint32("tokenizer.ggml.eos_token_id", tokens.index(tokenizer.END))
    w.add_bool("tokenizer.ggml.add_bos_token", False)
    w.add_string("tokenizer.chat_template", CHAT_TEMPLATE)

    def put(name, tensor):
        w.add_tensor(name, np.ascontiguousarray(tensor.detach().float().numpy()))

    for name, t in (tower.load() | net.top.weights()).items():  # tower, pooling, embeddings, layers: the loader's order
        if name.startswith("v."):
            if ".dw." in name and t.dim() == 4:
                t = t[:, 0]
            elif t.dim() == 4 and t.shape[-1] == 1:
                t = t[:, :, 0, 0]
            put(name, t)
    for part in ("pool", "names"):
        for name, t in getattr(net, part).state_dict().items():
            put(f"mm.{part}.{name}", t)
    put("token_embd.weight", net.token_embd.weight)
    for i, layer in enumerate(net.blk):
        for name, t in layer.state_dict().items():
            put(f"blk.{i}.{name}", t)
    put("output_norm.weight", net.output_norm.weight)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
