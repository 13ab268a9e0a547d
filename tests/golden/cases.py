"""The tiny models of the golden tests: one set of weights per architecture, one config.json per case. Shared by the
script that makes the expected numbers and the tests that compare with them. Standard library only."""

GEOMETRY = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 64, "tie_word_embeddings": False, "hidden_act": "silu",
            "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {"rope_type": "default", "rope_theta": 100.0}


def geometry(model_type, name, **changes):
    return {"architectures": [name], "model_type": model_type, **GEOMETRY, "rope_parameters": PLAIN, **changes}


# Weights folder -> config.json.
ARCHITECTURES = {
    "llama": geometry("llama", "LlamaForCausalLM", tie_word_embeddings=True),
    "llama_bias": geometry("llama", "LlamaForCausalLM", attention_bias=True, mlp_bias=True),
    "llama_mqa": geometry("llama", "LlamaForCausalLM", num_key_value_heads=1),
    "mistral": geometry("mistral", "MistralForCausalLM", sliding_window=13),
    "qwen2": geometry("qwen2", "Qwen2ForCausalLM", tie_word_embeddings=True, use_sliding_window=False),
    "qwen3": geometry("qwen3", "Qwen3ForCausalLM", head_dim=12, attention_bias=False, use_sliding_window=False),
}

FACTORS = [1.0, 1.3, 2.0, 3.5]


def rope(rope_type, **keys):
    return {"rope_parameters": {"rope_type": rope_type, "rope_theta": 100.0, **keys}}


# Case -> (weights, changes to config.json, settings of `carillon score` under rope.). The command line sets the types
# that transformers does not have, resonance, and a merge with the model's own settings.
ROPES = {
    "linear": ("llama", rope("linear", factor=4.0), {}),
    "dynamic": ("llama", rope("dynamic", factor=4.0), {}),
    "yarn": ("llama", rope("yarn", factor=4.0, original_max_position_embeddings=32), {}),
    "yarn_v4": ("llama", {"rope_parameters": None, "rope_theta": 100.0, "rope_scaling": {
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}}, {}),
    "yarn_attention": ("llama", rope("yarn", factor=4.0, original_max_position_embeddings=32, attention_factor=1.5,
                                     beta_fast=16.0, beta_slow=2.0, truncate=False), {}),
    "llama3": ("llama", rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=32), {}),
    "longrope": ("llama", rope("longrope", short_factor=[1.0, 1.0, 1.1, 1.2], long_factor=FACTORS, factor=2.0,
                               original_max_position_embeddings=32), {}),
    "proportional": ("llama", rope("proportional", partial_rotary_factor=0.5), {}),
    "ntk": ("llama", {}, {"type": "ntk", "factor": 4.0}),
    "ntk_by_parts": ("llama", {}, {"type": "ntk_by_parts", "factor": 4.0, "original_max_position_embeddings": 32}),
    "resonance": ("llama", {}, {"resonance": True}),
    "resonance_yarn": ("qwen3", {}, {"type": "yarn", "resonance": True, "factor": 4.0,
                                     "original_max_position_embeddings": 32}),
    "resonance_linear": ("llama", rope("linear", factor=2.0), {"resonance": True}),
}


def all_cases():
    """{name: (weights, config.json, command-line rope settings)}."""
    cases = {name: (name, config, {}) for name, config in ARCHITECTURES.items()}
    for name, (weights, changes, settings) in ROPES.items():
        config = {**ARCHITECTURES[weights], **changes}
        cases["rope_" + name] = (weights, {key: value for key, value in config.items() if value is not None}, settings)
    return cases


def documents(vocabulary=GEOMETRY["vocab_size"]):
    """Token lists, some longer than the trained length; the same tokens on every machine."""
    state = 12345
    result = []
    for length in (1, 2, 17, 50, 97):
        tokens = []
        for _ in range(length):
            state = (state * 1103515245 + 12345) % 2**31
            tokens.append(state // 65536 % vocabulary)
        result.append(tokens)
    return result


SEQUENCE_LENGTH = 33
TRAINING = {"steps": 10, "micro_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 3e-3,
            "warmup_steps": 3, "weight_decay": 0.1, "min_lr_ratio": 0.1, "max_grad_norm": 1.0}
TRAINED = ["llama", "llama_bias", "llama_mqa", "mistral", "qwen2", "qwen3"]


def training_documents(vocabulary=GEOMETRY["vocab_size"]):
    """[(tokens, loss weights)] of documents to be packed, cut and masked; the weights are 0, 0.5 and 1."""
    state = 99
    result = []
    for length in (20, 9, 33, 5, 70, 12, 1, 30, 8, 8, 15, 2, 40, 26):
        tokens, weights = [], []
        for i in range(length):
            state = (state * 1103515245 + 12345) % 2**31
            tokens.append(state // 65536 % vocabulary)
            weights.append([1, 1, 0.5, 0][state // 512 % 4] if len(result) % 3 else 1)
        result.append((tokens, weights))
    return result


def packed_sequences(vocabulary=GEOMETRY["vocab_size"]):
    """The sequences that `packing: true` forms, as lists of pieces (tokens, weights): pieces stay whole and in order,
    and a piece that does not fit begins the next sequence."""
    pieces = []
    for tokens, weights in training_documents(vocabulary):
        for begin in range(0, len(tokens), SEQUENCE_LENGTH):
            pieces.append((tokens[begin:begin + SEQUENCE_LENGTH], weights[begin:begin + SEQUENCE_LENGTH]))
    sequences, room = [], 0
    for piece in pieces:
        if len(piece[0]) > room:
            sequences.append([])
            room = SEQUENCE_LENGTH
        sequences[-1].append(piece)
        room -= len(piece[0])
    return sequences
