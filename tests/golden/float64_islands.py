"""Makes transformers compute in float64 throughout. Its norms, rotary tables, embedding scale and query temperature
compute in float32 whatever the model's type; they are replaced here. Its eager softmax does too, so models use sdpa.
Frequencies come from rope_frequencies.py and are compared with transformers' own if transformers has the type."""

import math

import numpy as np
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rope_frequencies import frequencies


def compare_with_transformers(model, rope, head_dim, max_position, length):
    """Checks our frequencies against transformers' own function, to float32 precision. Returns False if it has none."""
    kind = rope.get("rope_type", "default")
    if rope.get("resonance") or kind not in (*ROPE_INIT_FUNCTIONS, "default"):
        return False
    theta, attention, _ = frequencies(rope, head_dim, max_position, length)
    if kind == "default":
        theirs, scaling = model.model.rotary_emb.compute_default_rope_parameters(model.config)
    else:
        theirs, scaling = ROPE_INIT_FUNCTIONS[kind](model.config, "cpu", seq_len=length)
    np.testing.assert_allclose(theirs.numpy(), theta, rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(float(scaling), attention, rtol=1e-6)
    return True


class Rotary(torch.nn.Module):
    def __init__(self, rope, head_dim, max_position):
        super().__init__()
        self.settings = rope, head_dim, max_position

    def forward(self, x, position_ids):
        rope, head_dim, max_position = self.settings
        theta, attention, periods = frequencies(rope, head_dim, max_position, int(position_ids.max()) + 1)
        positions = position_ids.numpy()[..., None]
        angle = positions * theta if periods is None else 2 * math.pi * ((positions % periods) / periods)
        angle = torch.from_numpy(np.concatenate([angle, angle], axis=-1))
        return (angle.cos() * attention).to(x.dtype), (angle.sin() * attention).to(x.dtype)


def norm_forward(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


class LayeredRotary(torch.nn.Module):
    """Rotary tables, one per kind of layer, for the rotating dimensions only."""

    def __init__(self, settings):
        super().__init__()
        self.by_kind = {"sliding_attention" if window else "full_attention": rope
                        for window, rope in zip(settings.windows, settings.ropes) if rope}
        self.head_dim = settings.head_dim

    def forward(self, x, position_ids, layer_type=None):
        rope = self.by_kind[layer_type] if layer_type else next(iter(self.by_kind.values()))
        turning = int(self.head_dim * rope["partial_rotary_factor"])
        return Rotary(rope, turning, rope["max_position_embeddings"])(x, position_ids)


def lift(model, settings):
    """Replaces the float32 islands of a family's model that was loaded in float64; `settings`: those of families.py."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = (gemma_norm_forward if settings.one_plus_weight else norm_forward).__get__(module)
        if type(module).__name__.endswith("TextScaledWordEmbedding"):
            module.embed_scale = torch.tensor(module.scalar_embed_scale, dtype=torch.float64)
        if "rotary_emb" in module._modules and "layers" in module._modules:
            module.rotary_emb = LayeredRotary(settings)
    from transformers.models.ministral3 import modeling_ministral3
    modeling_ministral3.get_llama_4_attn_scale = lambda positions, beta, original: (
        1 + beta * torch.log(1 + (positions // original).double()))[:, None, :, None]


def gemma_norm_forward(self, x):
    return (1 + self.weight) * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def load(folder, rope):
    """Loads a folder's model in float64 with the rotation `rope` (transformers' names of the keys, and resonance)."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa")
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = norm_forward.__get__(module)
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for length in (1, 50, 97):
        compare_with_transformers(model, rope, head_dim, config.max_position_embeddings, length)
    model.model.rotary_emb = Rotary(rope, head_dim, config.max_position_embeddings)
    return model
