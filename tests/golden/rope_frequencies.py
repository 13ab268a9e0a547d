"""Rotation frequencies of every type in float64, by the formulas of the papers. Needs numpy only."""

import math

import numpy as np


def frequencies(rope, head_dim, max_position, length):
    """(angle per position, attention factor, integer periods or None) of one setting, in float64."""
    base, kind, factor = rope.get("rope_theta", 10000.0), rope.get("rope_type", "default"), rope.get("factor", 1.0)
    original = rope.get("original_max_position_embeddings", max_position)
    pair = np.arange(0, head_dim, 2, dtype=np.float64)
    theta, attention = base ** (-pair / head_dim), 1.0
    if kind == "linear":
        theta = theta / factor
    elif kind == "ntk":
        theta = (base * factor ** (head_dim / (head_dim - 2))) ** (-pair / head_dim)
    elif kind == "dynamic" and rope.get("alpha"):
        theta = (base * rope["alpha"] ** (head_dim / (head_dim - 2))) ** (-pair / head_dim)
    elif kind == "dynamic":
        now = max(length, max_position)
        stretched = base * (factor * now / max_position - (factor - 1)) ** (head_dim / (head_dim - 2))
        theta = stretched ** (-pair / head_dim)
    elif kind == "ntk_by_parts":
        turns = original * theta / (2 * math.pi)
        kept = np.clip((turns - 1) / (32 - 1), 0, 1)
        theta = (1 - kept) * theta / factor + kept * theta
    elif kind == "yarn":
        ends = [head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))
                for turns in (rope.get("beta_fast", 32), rope.get("beta_slow", 1))]
        if rope.get("truncate", True):
            ends = [math.floor(ends[0]), math.ceil(ends[1])]
        low, high = max(ends[0], 0), min(ends[1], head_dim - 1)
        high += 0.001 if low == high else 0
        ramp = np.clip((np.arange(head_dim // 2) - low) / (high - low), 0, 1)
        theta = theta / factor * ramp + theta * (1 - ramp)
        def magnitude(scale):
            return 0.1 * scale * math.log(factor) + 1
        scales = rope.get("mscale"), rope.get("mscale_all_dim")
        attention = rope.get("attention_factor") or (magnitude(scales[0]) / magnitude(scales[1]) if all(scales) else magnitude(1))
    elif kind == "llama3":
        wavelength = 2 * math.pi / theta
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        smooth = (original / wavelength - low) / (high - low)
        blended = (1 - smooth) * theta / factor + smooth * theta
        theta = np.where(wavelength < original / high, theta,
                         np.where(wavelength > original / low, theta / factor, blended))
    elif kind == "longrope":
        theta = theta / np.array(rope["long_factor" if length > original else "short_factor"])
        factor = rope.get("factor", max_position / original)
        attention = rope.get("attention_factor") or math.sqrt(1 + math.log(factor) / math.log(original))
    elif kind == "proportional":
        turning = int(rope["partial_rotary_factor"] * head_dim / 2)
        theta = np.where(np.arange(head_dim // 2) < turning, theta / factor, 0)
    elif kind == "distributional":
        def shares(frequency, positions):
            turns = np.modf(np.arange(positions) * frequency / (2 * math.pi))[0]
            return np.bincount(np.minimum(359, (turns * 360).astype(int)), minlength=360) / positions
        def disturbance(frequency, trained):
            used = shares(frequency, round(factor * original))
            return (used * np.log((used + 1e-8) / (trained + 1e-8))).sum()
        for i, frequency in enumerate(theta.copy()):
            trained = shares(frequency, original)
            margin = rope.get("disturbance_threshold", 0)
            if disturbance(frequency, trained) > disturbance(frequency / factor, trained) + margin:
                theta[i] = frequency / factor
    if rope.get("cope"):
        theta = theta.copy()
        theta[-rope["cope"]:] *= 0.5 * (1 + np.cos(np.linspace(0, math.pi, rope["cope"])))
    periods = None
    if rope.get("resonance"):
        periods = np.rint(2 * math.pi / theta).astype(np.int64)
        theta = 2 * math.pi / periods
    return theta, attention, periods
