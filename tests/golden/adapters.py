"""Adapters on three of the tiny models: one adapter_config.json per case, and weights derived from the tensors' names
(B is not zero, so A has a gradient from the first step). Shared by the script that makes the expected numbers and the
tests that compare with them. Needs numpy and safetensors only."""

import json
import pathlib

import numpy
from safetensors.numpy import save_file

import cases
import families
import golden_folder

HERE = pathlib.Path(__file__).resolve().parent
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def config(**changes):
    return {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "r": 4, "lora_alpha": 6,
            "lora_dropout": 0.0, "target_modules": ALL, "bias": "none", "fan_in_fan_out": False, "inference_mode": True,
            "use_rslora": False, "modules_to_save": None, "layers_to_transform": None, "rank_pattern": {},
            "alpha_pattern": {}, **changes}


# Case -> adapter_config.json. Together they cover all layers, some layers, rslora, and ranks and scales by pattern
# (one for a single layer).
ADAPTERS = {
    "llama": config(),
    "qwen3": config(use_rslora=True, rank_pattern={"layers.1.self_attn.k_proj": 3, "down_proj": 5},
                    alpha_pattern={"v_proj": 2.5}),
    "gemma3_text": config(target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], layers_to_transform=[0, 2, 4]),
}


def base_folder(temporary, name):
    if name in cases.ARCHITECTURES:
        return golden_folder.make(temporary, name, name, cases.ARCHITECTURES[name])
    return families.make(pathlib.Path(temporary) / name, name)


def vocabulary(name):
    return (cases.GEOMETRY if name in cases.ARCHITECTURES else families.GEOMETRY)["vocab_size"]


def _shape(base, target):
    head = base.get("head_dim") or base["hidden_size"] // base["num_attention_heads"]
    queries, keys = base["num_attention_heads"] * head, base["num_key_value_heads"] * head
    width, inner = base["hidden_size"], base["intermediate_size"]
    return {"q_proj": (queries, width), "k_proj": (keys, width), "v_proj": (keys, width), "o_proj": (width, queries),
            "gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}[target]


def weights(name, settings=None):
    """{PEFT's tensor name: float64 array}."""
    settings = settings or ADAPTERS[name]
    base = cases.ARCHITECTURES.get(name) or families.config_of(name)
    result = {}
    for layer in range(base["num_hidden_layers"]):
        if settings["layers_to_transform"] is not None and layer not in settings["layers_to_transform"]:
            continue
        for target in settings["target_modules"]:
            module = f"layers.{layer}.{'mlp' if target in ALL[4:] else 'self_attn'}.{target}"
            patterns = settings["rank_pattern"]
            rank = next((patterns[key] for key in patterns if module.endswith(key)), settings["r"])
            out, width = _shape(base, target)
            for part, shape in (("A", (rank, width)), ("B", (out, rank))):
                key = f"base_model.model.model.{module}.lora_{part}.weight"
                result[key] = 0.2 * families._noise(f"adapter {name} {key}", shape[0] * shape[1]).reshape(shape)
    return result


def make(folder, name, base=None, settings=None, arrays=None):
    """Writes the PEFT folder of a case."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    settings = {**(settings or ADAPTERS[name]), "base_model_name_or_path": None if base is None else str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    arrays = weights(name, settings) if arrays is None else arrays
    save_file({key: numpy.ascontiguousarray(value) for key, value in arrays.items()},
              folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def documents(name):
    return cases.documents(vocabulary(name))


def expected(name):
    return json.loads((HERE / "expected" / f"adapter_{name}.json").read_text())
