"""The block that all families share, in plain PyTorch and float64, as the settings of families.py define it.
make_families.py compares it with transformers; it replaces transformers for settings that transformers' own classes
cannot express."""

import numpy
import torch
from torch.nn.functional import gelu, silu

import families
from rope_frequencies import frequencies


class Reference(torch.nn.Module):
    """The model of a case. `config` may differ from the case's own; tensors of the case that it does not use are
    ignored."""

    def __init__(self, name, config=None, dtype=torch.float64, resonance=False):
        super().__init__()
        self.settings = families.settings(config or families.config_of(name))
        if resonance:
            self.settings.ropes = families.with_resonance(self.settings)
        self.dtype = dtype
        arrays = families.weights(families.CONFIGS[families.case_of(name)])
        self.tensors = {key: torch.nn.Parameter(torch.from_numpy(value.copy()).to(dtype)) for key, value in arrays.items()}

    def parameters(self, recurse=True):
        return iter(self.tensors.values())

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        return iter(self.tensors.items())

    def linear(self, x, name, bias):
        y = x @ self.tensors[name + ".weight"].T
        return y + self.tensors[name + ".bias"] if bias else y

    def norm(self, x, name):
        weight = self.tensors[name + ".weight"] + (1 if self.settings.one_plus_weight else 0)
        return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.settings.eps)

    def rotate(self, x, rope):
        """x: [heads, tokens, head_dim]. Rotates the pairs (i, i + n/2) of the first n dimensions by position · θ_i."""
        turning = int(x.shape[-1] * rope["partial_rotary_factor"])
        theta, attention, periods = frequencies(rope, turning, rope["max_position_embeddings"], x.shape[1])
        position = numpy.arange(x.shape[1])[:, None]
        angle = torch.from_numpy(position * theta if periods is None else 2 * numpy.pi * (position % periods / periods))
        cos, sin = ((f(angle) * attention).to(self.dtype) for f in (torch.cos, torch.sin))
        a, b = x[..., :turning // 2], x[..., turning // 2:turning]
        return torch.cat([a * cos - b * sin, b * cos + a * sin, x[..., turning:]], -1)

    def attention(self, x, layer):
        s, prefix = self.settings, f"model.layers.{layer}.self_attn."
        length, d = len(x), s.head_dim
        if s.fused:
            q, k, v = self.linear(x, prefix + "qkv_proj", s.qkv_bias).split([s.heads * d, s.kv_heads * d, s.kv_heads * d], -1)
        else:
            q, k, v = (self.linear(x, f"{prefix}{part}_proj", s.qkv_bias) for part in "qkv")
        if s.qk_norm == "whole":
            q, k = self.norm(q, prefix + "q_norm"), self.norm(k, prefix + "k_norm")
        q, k, v = (t.view(length, -1, d).transpose(0, 1) for t in (q, k, v))
        if s.qk_norm == "head":
            q, k = self.norm(q, prefix + "q_norm"), self.norm(k, prefix + "k_norm")
        if s.ropes[layer]:
            q, k = self.rotate(q, s.ropes[layer]), self.rotate(k, s.ropes[layer])
        if s.qk_norm == "after_rotation":
            q, k = self.norm(q, prefix + "query_layernorm"), self.norm(k, prefix + "key_layernorm")
        beta, original = s.temperature
        position = torch.arange(length)
        q = q * (1 + beta * torch.log(1 + (position // original).to(self.dtype)))[:, None]
        k, v = (t.repeat_interleave(s.heads // s.kv_heads, 0) for t in (k, v))
        distance = position[:, None] - position
        seen = (distance >= 0) & (distance < (s.windows[layer] or length))
        scores = (q @ k.transpose(1, 2) * s.scale).masked_fill(~seen, -torch.inf)
        if s.sinks:
            scores = torch.cat([scores, self.tensors[prefix + "sinks"].view(-1, 1, 1).expand(-1, length, 1)], -1)
        mixed = torch.softmax(scores, -1)[..., :length] @ v
        return self.linear(mixed.transpose(0, 1).reshape(length, -1), prefix + "o_proj", s.out_bias)

    def mlp(self, x, layer):
        s, prefix = self.settings, f"model.layers.{layer}.mlp."
        if s.fused:
            gate, up = self.linear(x, prefix + "gate_up_proj", s.mlp_bias).chunk(2, -1)
        else:
            gate, up = (self.linear(x, prefix + part, s.mlp_bias) for part in ("gate_proj", "up_proj"))
        gate = silu(gate) if s.activation == "silu" else gelu(gate, approximate="tanh")
        return self.linear(gate * up, prefix + "down_proj", s.mlp_bias)

    def forward(self, tokens):
        """Logits [tokens, vocabulary] of one document."""
        s = self.settings
        x = self.tensors["model.embed_tokens.weight"][torch.tensor(tokens)] * s.embedding_multiplier
        for layer in range(len(s.windows)):
            prefix = f"model.layers.{layer}."
            for half, before, after in ((self.attention, "input_layernorm", "post_attention_layernorm"),
                                        (self.mlp, "pre_feedforward_layernorm", "post_feedforward_layernorm")):
                if s.norms == "before" and half == self.mlp:
                    before = "post_attention_layernorm"
                y = half(x if s.norms == "after" else self.norm(x, prefix + before), layer)
                x = x + s.residual_multiplier * (y if s.norms == "before" else self.norm(y, prefix + after))
        x = self.norm(x, "model.norm")
        head = self.tensors["model.embed_tokens.weight" if s.tied else "lm_head.weight"]
        logits = x @ head.T / s.logits_divisor
        return s.soft_cap * torch.tanh(logits / s.soft_cap) if s.soft_cap else logits
