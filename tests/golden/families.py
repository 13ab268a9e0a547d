"""The families beyond the first four as tiny models: one config.json per case, weights generated from the tensors'
names, the settings of the block they share (FAMILIES.md has the table), and for every setting a changed value that must
change the scores. Shared by the script that makes the expected numbers and the tests that compare with them. Standard
library and numpy only."""

import copy
import dataclasses
import json
import pathlib
import zlib

import numpy

import cases

GEOMETRY = {"vocab_size": 53, "hidden_size": 32, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 64, "tie_word_embeddings": False,
            "initializer_range": 0.2, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
YARN = {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 32}
S, F = "sliding_attention", "full_attention"


def config(model_type, name, **changes):
    """A config.json; a change to `...` leaves the key out, so the family's default applies."""
    merged = {"architectures": [name], "model_type": model_type, **GEOMETRY, **changes}
    return {key: value for key, value in merged.items() if value is not ...}


def default_rope(theta=100.0):
    return {"rope_type": "default", "rope_theta": theta}


GEMMA = config("gemma3_text", "Gemma3ForCausalLM", hidden_size=40, head_dim=8, num_hidden_layers=5, tie_word_embeddings=...,
               rms_norm_eps=..., hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=13, sliding_window=11)
MINISTRAL = config("ministral3", "Ministral3ForCausalLM", hidden_size=40, head_dim=8, hidden_act="silu",
                   rope_parameters={**YARN, "original_max_position_embeddings": 16, "beta_fast": 0.7, "beta_slow": 0.5,
                                    "mscale": 1.3, "mscale_all_dim": 0.4, "llama_4_scaling_beta": 0.3})
LLAMA = config("llama", "LlamaForCausalLM", rope_parameters=default_rope(), hidden_act="silu")

# Case -> config.json. A key that a case leaves out takes the family's default, which is thereby tested.
CONFIGS = {
    # "gelu", which transformers' class for this family interprets as the tanh formula.
    "gemma": config("gemma", "GemmaForCausalLM", hidden_size=40, head_dim=12, hidden_act="gelu", attention_bias=True,
                    rms_norm_eps=..., tie_word_embeddings=..., rope_parameters=default_rope()),
    # Version 4 keys, the pattern as a number, and a scaling that touches full attention only.
    "gemma3_text": {**GEMMA, "sliding_window_pattern": 3, "rope_theta": 300.0, "rope_local_base_freq": 40.0,
                    "rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    "gemma3_text_bias": {**GEMMA, "layer_types": [F, S, S, F, S], "attention_bias": True, "final_logit_softcapping": 4.0,
                         "tie_word_embeddings": False,
                         "rope_parameters": {F: {**YARN, "rope_theta": 300.0}, S: default_rope(40.0)}},
    "olmo2": config("olmo2", "Olmo2ForCausalLM", attention_bias=True, rms_norm_eps=..., rope_parameters=default_rope()),
    "olmo3": config("olmo3", "Olmo3ForCausalLM", num_hidden_layers=5, sliding_window=9,
                    rope_parameters={F: {**YARN, "beta_fast": 1.5, "beta_slow": 0.4}, S: default_rope(70.0)}),
    "smollm3": config("smollm3", "SmolLM3ForCausalLM", num_hidden_layers=4, no_rope_layers=[1, 0, 1, 1],
                      tie_word_embeddings=..., rope_parameters=default_rope()),
    "smollm3_window": config("smollm3", "SmolLM3ForCausalLM", num_hidden_layers=4, no_rope_layer_interval=2,
                             use_sliding_window=True, sliding_window=13, attention_bias=True, mlp_bias=True,
                             rope_parameters=default_rope()),
    "ministral3": MINISTRAL,
    "phi3": config("phi3", "Phi3ForCausalLM", sliding_window=15, rope_theta=100.0, partial_rotary_factor=0.75),
    "phi3_longrope": config("phi3", "Phi3ForCausalLM", original_max_position_embeddings=24, max_position_embeddings=96,
                            tie_word_embeddings=True, partial_rotary_factor=0.75, rope_theta=100.0,
                            rope_scaling={"type": "longrope", "short_factor": [1.0, 1.2, 1.5],
                                          "long_factor": [1.1, 2.0, 3.5]}),
    "granite": config("granite", "GraniteForCausalLM", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                      rope_parameters=default_rope(), embedding_multiplier=3.0, residual_multiplier=0.4,
                      attention_multiplier=0.21, logits_scaling=2.5),
    "seed_oss": config("seed_oss", "SeedOssForCausalLM", head_dim=12, attention_dropout=0.0, residual_dropout=0.0,
                       rope_parameters=default_rope()),
    "seed_oss_bias": config("seed_oss", "SeedOssForCausalLM", head_dim=8, attention_bias=False, attention_out_bias=True,
                            mlp_bias=True, rope_parameters=default_rope()),
    "cwm": config("cwm", "CwmForCausalLM", head_dim=8, num_hidden_layers=5, sliding_window=9, mlp_bias=True,
                  rope_parameters={"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
    "exaone4": config("exaone4", "Exaone4ForCausalLM", num_hidden_layers=5, sliding_window=9, sliding_window_pattern=3,
                      tie_word_embeddings=True, rope_parameters=default_rope()),
    "exaone4_full": config("exaone4", "Exaone4ForCausalLM", sliding_window=None, layer_types=[F, F, F],
                           rope_parameters={"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}),
    "hunyuan_v1_dense": config("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", head_dim=12, attention_bias=True,
                               tie_word_embeddings=True, rope_parameters={"rope_type": "dynamic", "rope_theta": 100.0,
                                                                          "alpha": 50.0, "factor": 1.0}),
    "qwen2_window": config("qwen2", "Qwen2ForCausalLM", num_hidden_layers=4, use_sliding_window=True, sliding_window=11,
                           max_window_layers=2, rope_parameters=default_rope()),
    "qwen3_window": config("qwen3", "Qwen3ForCausalLM", head_dim=8, use_sliding_window=True, sliding_window=11,
                           layer_types=[S, F, S], attention_bias=True, rope_parameters=default_rope()),
    # The keys that a wrapper's text_config may leave out, written out: for gemma3_bare and mistral3_bare below.
    "gemma3_defaults": config("gemma3_text", "Gemma3ForCausalLM", hidden_size=40, num_hidden_layers=6, num_attention_heads=8,
                              num_key_value_heads=4, head_dim=256, max_position_embeddings=131072, rms_norm_eps=1e-6,
                              tie_word_embeddings=True, query_pre_attn_scalar=256, sliding_window=11, sliding_window_pattern=6,
                              hidden_activation="gelu_pytorch_tanh", rope_theta=1e6, rope_local_base_freq=1e4),
    "mistral_defaults": config("mistral", "MistralForCausalLM", rms_norm_eps=1e-6, max_position_embeddings=131072,
                               tie_word_embeddings=True, sliding_window=4096, rope_theta=1e4, hidden_act="silu"),
    # Settings that transformers' classes of llama and mistral ignore; the expected numbers come from
    # family_reference.py.
    "llama_layers": {**LLAMA, "num_hidden_layers": 4, "layer_types": [S, F, S, F], "sliding_window": 11,
                     "no_rope_layers": [1, 0, 1, 1]},
    "mistral_layers": config("mistral", "MistralForCausalLM", num_hidden_layers=4, layer_types=[F, S, F, S], sliding_window=11,
                             rope_parameters=default_rope()),
    "llama_sinks": {**LLAMA, "attention_sinks": True},
    "llama_sinks_window": {**LLAMA, "attention_sinks": True, "layer_types": [S, F, S], "sliding_window": 7},
}
NOT_IN_TRANSFORMERS = ("llama_layers", "mistral_layers", "llama_sinks", "llama_sinks_window")
TRAINED = [name for name in CONFIGS if name not in (
    "exaone4_full", "llama_sinks", "seed_oss_bias", "gemma3_defaults", "mistral_defaults",
    # A run selects longrope's list by its sequence_length, transformers by the positions of each batch.
    "phi3_longrope")]

# Sizes of the tiny vision towers. Below, WRAPPERS: wrapper -> (case whose text model it holds, its config.json), and
# WRAPPED_NAMES: the prefixes of tensor names in newer and in older files.
VISION = {"llava": {"model_type": "clip_vision_model", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
                    "num_attention_heads": 2, "image_size": 28, "patch_size": 7, "projection_dim": 8},
          "gemma3": {"model_type": "siglip_vision_model", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "image_size": 28, "patch_size": 7},
          "mistral3": {"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "head_dim": 4, "image_size": 28, "patch_size": 7}}


def _wrapped(model_type, name, text, left_out, **keys):
    text = {key: value for key, value in text.items() if key not in ("architectures", *left_out)}
    return {"architectures": [name], "model_type": model_type, "text_config": text, "vision_config": VISION[model_type],
            **keys}


WRAPPERS = {
    "gemma3": ("gemma3_text", _wrapped("gemma3", "Gemma3ForConditionalGeneration", CONFIGS["gemma3_text"], ["model_type"],
                                       mm_tokens_per_image=4)),
    "mistral3": ("ministral3", _wrapped("mistral3", "Mistral3ForConditionalGeneration", MINISTRAL, ["tie_word_embeddings"],
                                        tie_word_embeddings=False)),
    # Like published files: text_config has few keys, and mistral3's lacks its model_type.
    "gemma3_bare": ("gemma3_defaults", _wrapped(
        "gemma3", "Gemma3ForConditionalGeneration", CONFIGS["gemma3_defaults"],
        [key for key in CONFIGS["gemma3_defaults"] if key not in (
            "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "sliding_window", "pad_token_id")],
        mm_tokens_per_image=4)),
    "mistral3_bare": ("mistral_defaults", _wrapped(
        "mistral3", "Mistral3ForConditionalGeneration", CONFIGS["mistral_defaults"],
        ["model_type", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "sliding_window", "rope_theta",
         "hidden_act"])),
    # Any wrapper of a known text model.
    "llava": ("qwen3_window", _wrapped("llava", "LlavaForConditionalGeneration", CONFIGS["qwen3_window"], [],
                                       tie_word_embeddings=False)),
}
WRAPPED_NAMES = {"gemma3": ("model.language_model.", "lm_head."), "llava": ("model.language_model.", "lm_head."),
                 "mistral3": ("language_model.model.", "language_model.lm_head.")}

GROUPS = {"gemma": ["gemma", "gemma3_text", "gemma3_text_bias", "gemma3", "gemma3_bare"],
          "olmo": ["olmo2", "olmo3", "exaone4", "exaone4_full"],
          "mistral": ["ministral3", "mistral3", "mistral3_bare", "smollm3", "smollm3_window"],
          "phi": ["phi3", "phi3_longrope", "granite", "hunyuan_v1_dense"],
          "cwm": ["cwm", "seed_oss", "seed_oss_bias"],
          "windows": ["qwen2_window", "qwen3_window", "llava", "llama_layers", "mistral_layers"],
          "sinks": ["llama_sinks", "llama_sinks_window"]}


@dataclasses.dataclass
class Settings:
    """What the block computes. Layer i has the window `windows[i]` (None: full attention) and the rope keys `ropes[i]`
    (None: no rotation)."""

    config: dict
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    tied: bool
    windows: list
    ropes: list
    norms: str = "before"              # before | after | both
    one_plus_weight: bool = False
    qk_norm: str = "none"              # none | head | whole | after_rotation
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    activation: str = "silu"
    scale: float = 0.0
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_divisor: float = 1.0
    soft_cap: float = 0.0
    temperature: tuple = (0.0, 1)      # (beta, original length)
    sinks: bool = False
    fused: bool = False


MAX_POSITION = {"gemma": 8192, "gemma3_text": 131072, "olmo2": 2048, "olmo3": 2048, "smollm3": 32768, "ministral3": 262144, "phi3": 4096,
                "granite": 2048, "seed_oss": 524288, "cwm": 131072, "exaone4": 2048, "hunyuan_v1_dense": 2048, "llama": 2048,
                "mistral": 131072, "qwen2": 32768, "qwen3": 32768}


def _rope(config, theta=10000.0):
    """The rope keys under the names of transformers 5; also reads those of version 4."""
    rope = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    rope.setdefault("rope_theta", config.get("rope_theta", theta))
    rope.setdefault("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    rope["max_position_embeddings"] = config["max_position_embeddings"]
    own = config.get("original_max_position_embeddings", 4096 if config.get("model_type") == "phi3" else None)
    if own:
        rope["original_max_position_embeddings"] = own
    rope.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    return rope


def _ropes_by_kind(config, full, sliding):
    nested = config.get("rope_parameters") or {}
    result = {}
    for kind, theta in ((F, full), (S, sliding)):
        keys = dict(nested.get(kind) or {})
        if kind == F:
            keys.update(config.get("rope_scaling") or {})
        result[kind] = _rope({"max_position_embeddings": config["max_position_embeddings"], "rope_parameters": keys}, theta)
    return result


def settings(config):
    """Settings of one config.json with the defaults of transformers 5.24; widths and counts must be given."""
    config = {"max_position_embeddings": MAX_POSITION[config["model_type"]], **config}
    family, layers, heads = config["model_type"], config["num_hidden_layers"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    eps = config.get("rms_norm_eps", 1e-5 if family in ("olmo2", "olmo3", "ministral3", "phi3", "cwm", "exaone4",
                                                        "hunyuan_v1_dense") else 1e-6)
    bias = bool(config.get("attention_bias", family == "seed_oss"))
    rope = _rope(config, 2000000.0 if family == "smollm3" else 10000.0)
    window = config.get("sliding_window", 4096 if family == "mistral" else None)
    kinds, rotates, ropes = config.get("layer_types"), [True] * layers, [rope] * layers
    result = Settings(config, heads, config["num_key_value_heads"], head_dim, eps,
                      bool(config.get("tie_word_embeddings", family in ("gemma", "gemma3_text", "smollm3"))), [], [],
                      qkv_bias=bias, out_bias=bias, mlp_bias=bool(config.get("mlp_bias")), scale=head_dim ** -0.5)
    if family == "gemma":
        result.one_plus_weight, result.activation = True, "gelu_pytorch_tanh"
        result.embedding_multiplier = config["hidden_size"] ** 0.5
    elif family == "gemma3_text":
        pattern, by_kind = config.get("sliding_window_pattern", 6), _ropes_by_kind(config, config.get("rope_theta", 1e6),
                                                                                   config.get("rope_local_base_freq", 1e4))
        kinds = kinds or [S if (i + 1) % pattern else F for i in range(layers)]
        ropes = [by_kind[kind] for kind in kinds]
        result.norms, result.one_plus_weight, result.qk_norm = "both", True, "head"
        result.activation, result.scale = "gelu_pytorch_tanh", config.get("query_pre_attn_scalar", 256) ** -0.5
        result.embedding_multiplier = config["hidden_size"] ** 0.5
        result.soft_cap = config.get("final_logit_softcapping") or 0.0
    elif family in ("olmo2", "olmo3"):
        result.norms, result.qk_norm = "after", "whole"
        if family == "olmo3":
            kinds = kinds or [S if (i + 1) % 4 else F for i in range(layers)]
            by_kind = _ropes_by_kind(config, 5e5, 5e5)
            ropes = [by_kind[kind] for kind in kinds]
    elif family == "exaone4":
        pattern = config.get("sliding_window_pattern", 4)
        kinds = kinds or [S if (i + 1) % pattern else F for i in range(layers)]
        rotates = [window is None or kind == S for kind in kinds]
        result.norms, result.qk_norm = "after", "head"
    elif family == "smollm3":
        interval = config.get("no_rope_layer_interval", 4)
        rotates = [bool(turns) for turns in config.get("no_rope_layers") or [(i + 1) % interval for i in range(layers)]]
        window = window if config.get("use_sliding_window") else None
        kinds = kinds or [S if window and not turns else F for turns in rotates]
    elif family == "ministral3":
        kinds = [S] * layers
        result.temperature = (rope["llama_4_scaling_beta"], rope["original_max_position_embeddings"])
    elif family == "phi3":
        kinds, result.fused = [S] * layers, True
    elif family == "granite":
        result.scale, result.embedding_multiplier, result.residual_multiplier, result.logits_divisor = (config.get(
            key, 1.0) for key in ("attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"))
    elif family == "seed_oss":
        result.out_bias = bool(config.get("attention_out_bias"))
    elif family == "cwm":
        kinds = kinds or [S if i % 4 else F for i in range(layers)]
    elif family == "hunyuan_v1_dense":
        result.qk_norm = "after_rotation"
    elif family in ("qwen2", "qwen3"):
        window = window if config.get("use_sliding_window") else None
        kinds = kinds or [S if window and i >= config.get("max_window_layers", 28) else F for i in range(layers)]
        if family == "qwen2":
            result.qkv_bias, result.out_bias = True, False
        else:
            result.qk_norm = "head"
    elif family in ("llama", "mistral"):
        kinds = kinds or ([S] * layers if family == "mistral" else None)
        rotates = [bool(turns) for turns in config.get("no_rope_layers") or [1] * layers]
    else:
        raise ValueError(family)
    result.windows = [window if kind == S else None for kind in kinds or [F] * layers]
    result.ropes = [rope if turns else None for turns, rope in zip(rotates, ropes)]
    result.sinks = bool(config.get("attention_sinks"))
    return result


def with_resonance(s):
    """The layers' rope keys under `rope.resonance=true`. In families that rotate by kind of layer, windowed layers keep
    their own rotation."""
    by_kind = s.config["model_type"] in ("gemma3_text", "olmo3")
    return [rope and {**rope, "resonance": not (by_kind and window)} for rope, window in zip(s.ropes, s.windows)]


def tensors(config):
    """{Hugging Face's name: shape} of every tensor in the model's file."""
    s = settings(config)
    width, inner = config["hidden_size"], config["intermediate_size"]
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    result = {"model.embed_tokens.weight": (config["vocab_size"], width)}

    def linear(name, rows, columns, bias):
        result[name + ".weight"] = (rows, columns)
        if bias:
            result[name + ".bias"] = (rows,)

    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        if s.norms != "after":
            result[prefix + "input_layernorm.weight"] = (width,)
        result[prefix + "post_attention_layernorm.weight"] = (width,)
        if s.norms == "both":
            result[prefix + "pre_feedforward_layernorm.weight"] = (width,)
        if s.norms != "before":
            result[prefix + "post_feedforward_layernorm.weight"] = (width,)
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        if s.fused:
            linear(attention + "qkv_proj", q + 2 * kv, width, s.qkv_bias)
            linear(mlp + "gate_up_proj", 2 * inner, width, s.mlp_bias)
        else:
            for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
                linear(attention + name, rows, width, s.qkv_bias)
            linear(mlp + "gate_proj", inner, width, s.mlp_bias)
            linear(mlp + "up_proj", inner, width, s.mlp_bias)
        linear(attention + "o_proj", width, q, s.out_bias)
        linear(mlp + "down_proj", width, inner, s.mlp_bias)
        if s.qk_norm != "none":
            names = ("query_layernorm", "key_layernorm") if s.qk_norm == "after_rotation" else ("q_norm", "k_norm")
            for name, width_of_all in zip(names, (q, kv)):
                result[f"{attention}{name}.weight"] = (width_of_all if s.qk_norm == "whole" else s.head_dim,)
        if s.sinks:
            result[attention + "sinks"] = (s.heads,)
    result["model.norm.weight"] = (width,)
    if not s.tied:
        result["lm_head.weight"] = (config["vocab_size"], width)
    return result


def _noise(name, count):
    """`count` numbers of mean 0 and standard deviation 1, derived from a name: splitmix64 of a counter, the same on
    every machine."""
    with numpy.errstate(over="ignore"):
        z = (numpy.arange(1, count + 1, dtype=numpy.uint64) + numpy.uint64(zlib.crc32(name.encode()) << 20)) * numpy.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z ^= z >> numpy.uint64(31)
    return ((z >> numpy.uint64(11)).astype(numpy.float64) / 2**53 * 2 - 1) * 3**0.5


def weights(config):
    """{name: float32 array} with values that bfloat16 represents exactly. They depend on tensor and family, not on the
    case."""
    one_plus = settings(config).one_plus_weight
    result = {}
    for name, shape in tensors(config).items():
        values = _noise(f"{config['model_type']} {name}", int(numpy.prod(shape))).reshape(shape)
        if "norm" in name:
            values = (0 if one_plus else 1) + 0.2 * values
        else:
            values = (1.0 if name.endswith("sinks") else 0.25) * values
        bits = values.astype(numpy.float32).view(numpy.uint32)
        result[name] = (bits + 0x8000 & numpy.uint32(0xFFFF0000)).view(numpy.float32)
    return result


def write_tensors(path, arrays):
    """Writes a safetensors file of bfloat16 tensors. numpy has no such type, so the file is assembled here."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in arrays.items():
        part = (values.view(numpy.uint32) >> numpy.uint32(16)).astype("<u2").tobytes()
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)


def case_of(name):
    """The case that holds the expected numbers of a case or wrapper."""
    return WRAPPERS[name][0] if name in WRAPPERS else name


def config_of(name):
    return copy.deepcopy(WRAPPERS[name][1] if name in WRAPPERS else CONFIGS[name])


def make(folder, name, config=None):
    """Writes the Hugging Face folder of a case or wrapper; `config` replaces its config.json (the weights stay the
    case's)."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    arrays = weights(CONFIGS[case_of(name)])
    if name in WRAPPERS:
        body, head = WRAPPED_NAMES[WRAPPERS[name][1]["model_type"]]
        arrays = {key.replace("lm_head.", head) if key.startswith("lm_head.") else body + key.removeprefix("model."): value
                  for key, value in arrays.items()}
        tower = ("model." if body.startswith("model.") else "") + "vision_tower."
        arrays[tower + "patch_conv.weight"] = numpy.ones((8, 3, 7, 7), numpy.float32)
        arrays[tower.replace("vision_tower", "multi_modal_projector") + "norm.weight"] = numpy.ones(8, numpy.float32)
    write_tensors(folder / "model.safetensors", arrays)
    (folder / "config.json").write_text(json.dumps(config or config_of(name), indent=1))
    return folder


def documents():
    return cases.documents(GEOMETRY["vocab_size"])


def expected(name):
    return json.loads((pathlib.Path(__file__).resolve().parent / "expected" / f"family_{case_of(name)}.json").read_text())


# Case -> changes of one setting each, as (path of keys, value); `...` removes the key. Each must change the scores.
CONTROLS = {
    "gemma": [(["attention_bias"], False), (["rms_norm_eps"], 1e-2), (["rope_parameters", "rope_theta"], 200.0)],
    "gemma3_text": [(["sliding_window_pattern"], 2), (["rope_theta"], 200.0), (["rope_local_base_freq"], 50.0),
                    (["rope_scaling", "factor"], 4.0), (["rope_scaling"], ...), (["query_pre_attn_scalar"], 8),
                    (["sliding_window"], 12), (["sliding_window"], 10), (["rms_norm_eps"], 1e-2)],
    "gemma3_text_bias": [(["layer_types"], [F, S, S, S, F]), (["final_logit_softcapping"], 5.0),
                         (["final_logit_softcapping"], None), (["attention_bias"], False),
                         (["rope_parameters", F, "factor"], 2.0),
                         (["rope_parameters", F], default_rope(300.0)), (["rope_parameters", S, "rope_theta"], 300.0),
                         (["tie_word_embeddings"], True)],
    "olmo2": [(["attention_bias"], False), (["rms_norm_eps"], 1e-2), (["rope_parameters", "rope_theta"], 200.0)],
    "olmo3": [(["sliding_window"], 10), (["sliding_window"], 8), (["layer_types"], [F, S, S, F, S]),
              (["rope_parameters", F, "factor"], 3.0), (["rope_parameters", F, "beta_fast"], 8.0),
              (["rope_parameters", F, "beta_slow"], 1.0),
              (["rope_parameters", S], YARN), (["rope_parameters", S, "rope_theta"], 100.0)],
    "smollm3": [(["no_rope_layers"], [1, 1, 1, 1]), (["no_rope_layers"], ...), (["rope_parameters", "rope_theta"], 200.0)],
    "smollm3_window": [(["no_rope_layer_interval"], 3), (["use_sliding_window"], False), (["sliding_window"], 14),
                       (["attention_bias"], False), (["mlp_bias"], False)],
    "ministral3": [(["rope_parameters", "mscale"], 1.0), (["rope_parameters", "mscale_all_dim"], 0.5),
                   (["rope_parameters", "llama_4_scaling_beta"], 0.0), (["rope_parameters", "llama_4_scaling_beta"], 0.2),
                   (["rope_parameters", "original_max_position_embeddings"], 17), (["rope_parameters", "beta_fast"], 4.0),
                   (["rope_parameters", "beta_slow"], 0.2), (["sliding_window"], 11)],
    "phi3": [(["sliding_window"], 16), (["sliding_window"], None), (["rope_theta"], 200.0), (["partial_rotary_factor"], ...),
             (["partial_rotary_factor"], 0.5)],
    "phi3_longrope": [(["original_max_position_embeddings"], 50),
                      (["original_max_position_embeddings"], 17), (["max_position_embeddings"], 64),
                      (["rope_scaling", "long_factor"], [1.1, 2.0, 3.0]), (["rope_scaling", "short_factor"], [1.0, 1.2, 1.4]),
                      (["rope_scaling", "attention_factor"], 1.0)],
    "granite": [(["embedding_multiplier"], 1.0), (["residual_multiplier"], 1.0), (["attention_multiplier"], 1.0),
                (["logits_scaling"], 1.0), (["attention_bias"], False), (["mlp_bias"], False)],
    "seed_oss": [(["attention_bias"], False), (["rope_parameters", "rope_theta"], 200.0)],
    "seed_oss_bias": [(["attention_out_bias"], False), (["mlp_bias"], False)],
    "cwm": [(["sliding_window"], 10), (["layer_types"], [S, S, S, F, S]), (["mlp_bias"], False),
            (["rope_parameters", "factor"], 4.0), (["rope_parameters", "low_freq_factor"], 2.0)],
    "exaone4": [(["sliding_window"], 10), (["sliding_window_pattern"], 4), (["layer_types"], [S, S, S, S, F])],
    "exaone4_full": [(["sliding_window"], 4096), (["rope_parameters", "factor"], 3.0)],
    "hunyuan_v1_dense": [(["rope_parameters", "alpha"], 40.0), (["rope_parameters", "alpha"], ...),
                         (["rope_parameters", "rope_type"], "default"), (["attention_bias"], False)],
    "qwen2_window": [(["use_sliding_window"], False), (["sliding_window"], 12), (["max_window_layers"], 3)],
    "qwen3_window": [(["layer_types"], [F, S, S]), (["sliding_window"], 10), (["attention_bias"], False)],
    "gemma3_defaults": [(["query_pre_attn_scalar"], 40), (["sliding_window_pattern"], 5), (["rope_local_base_freq"], 1e3)],
    "mistral_defaults": [(["sliding_window"], 11), (["rope_theta"], 1e5)],
    "llama_layers": [(["layer_types"], ...), (["sliding_window"], 12), (["no_rope_layers"], ...)],
    "mistral_layers": [(["layer_types"], ...), (["sliding_window"], 12)],
    "llama_sinks": [(["attention_sinks"], False)],
    "llama_sinks_window": [(["attention_sinks"], False), (["sliding_window"], 8)],
}


def changed(name, path, value):
    """The config.json of a case with one setting changed."""
    result = config_of(name)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = copy.deepcopy(value)
    return result
