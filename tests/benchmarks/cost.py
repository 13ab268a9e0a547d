"""Geometries, and the floating-point operations that count as useful work."""

BASE = {"tie_word_embeddings": True, "rms_norm_eps": 1e-5, "initializer_range": 0.02}
# SmolLM2-135M.
LARGE = {**BASE, "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
         "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64}
SMALL = {**BASE, "vocab_size": 512, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
         "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64}

BACKWARD_SHARE = 2.5  # of attention: five products where the forward pass has two


def matrix_parameters(geometry):
    """Parameters used in matrix products: includes the language-model head, not the embedding look-up."""
    hidden, wide = geometry["hidden_size"], geometry["num_attention_heads"] * geometry["head_dim"]
    narrow = geometry["num_key_value_heads"] * geometry["head_dim"]
    layer = 2 * hidden * wide + 2 * hidden * narrow + 3 * hidden * geometry["intermediate_size"]
    return geometry["num_hidden_layers"] * layer + geometry["vocab_size"] * hidden


def attention_forward(length, width):
    """One layer, causal: half of 4·S²·a·d; `width` is a·d."""
    return 2.0 * length * length * width


def attention_both(length, width):
    return attention_forward(length, width) * (1 + BACKWARD_SHARE)


def step(geometry, length, sequences):
    """A whole training step; recomputed activations do not count."""
    width = geometry["num_attention_heads"] * geometry["head_dim"]
    products = 6.0 * matrix_parameters(geometry) * length
    return sequences * (products + geometry["num_hidden_layers"] * attention_both(length, width))
