"""A tiny llama as plain data, and files of it as other programs would write them: safetensors written here, HDF5
through h5py. The weights are drawn from the seed each time; nothing is read from the repository."""

import json
import pathlib
import random
import struct

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 23, "hidden_size": 8,
          "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
          "head_dim": 4, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "tie_word_embeddings": False,
          "hidden_act": "silu", "rope_theta": 100.0}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


def shapes(config=CONFIG):
    c, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    result = {"model.embed_tokens.weight": [v, c], "model.norm.weight": [c]}
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        result |= {p + "input_layernorm.weight": [c], p + "post_attention_layernorm.weight": [c],
                   p + "self_attn.q_proj.weight": [q, c], p + "self_attn.k_proj.weight": [kv, c],
                   p + "self_attn.v_proj.weight": [kv, c], p + "self_attn.o_proj.weight": [c, q],
                   p + "mlp.gate_proj.weight": [f, c], p + "mlp.up_proj.weight": [f, c],
                   p + "mlp.down_proj.weight": [c, f]}
    return result | {"lm_head.weight": [v, c]}


def count(shape):
    product = 1
    for size in shape:
        product *= size
    return product


def weights(seed=1, config=CONFIG):
    """name -> (dtype, shape, bytes), float32."""
    draw = random.Random(seed)
    return {name: ("F32", shape, struct.pack(f"<{count(shape)}f", *(draw.uniform(-0.5, 0.5) for _ in range(count(shape)))))
            for name, shape in shapes(config).items()}


def safetensors(tensors, metadata=None):
    header, data = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def folder(path, tensors=None, config=CONFIG):
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(safetensors(weights() if tensors is None else tensors, {"format": "pt"}))
    return path


def sharded(path, tensors=None, config=CONFIG, shards=2):
    path = pathlib.Path(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    tensors = weights() if tensors is None else tensors
    names, where = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        (path / file).write_bytes(safetensors(part, {"format": "pt"}))
        where |= {name: file for name in part}
    total = sum(len(raw) for _, _, raw in tensors.values())
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": where}))
    return path


def documents(path, lengths=(9, 17), vocabulary=23, seed=3):
    draw = random.Random(seed)
    path = pathlib.Path(path)
    path.write_text("".join(json.dumps({"tokens": [draw.randrange(vocabulary) for _ in range(n)]}) + "\n" for n in lengths))
    return path


def model_file(path, tensors=None, config=CONFIG, libver=None, **options):
    """Writes a model file with h5py. options: of every dataset (chunks, compression, …)."""
    import h5py
    import numpy
    with h5py.File(path, "w", libver=libver) as file:
        file.attrs["config"] = json.dumps(config)
        file.attrs["format_version"] = "1"
        for name, (_, shape, raw) in (weights() if tensors is None else tensors).items():
            file.create_dataset("model/" + name, data=numpy.frombuffer(raw, "<f4").reshape(shape), **options)
    return pathlib.Path(path)
