// A rotation in llama.cpp's terms, and the values it computes from them (ggml_rope in ggml-cpu/ops.cpp).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/rope_config.h"

namespace carillon {

struct GgufRope {
  double base = 10000;          // rope.freq_base
  std::string type;             // rope.scaling.type: "none", "linear" or "yarn"; empty: not written
  double factor = 1;            // rope.scaling.factor
  double attention_factor = 1;  // rope.scaling.attn_factor; yarn multiplies it by its own 1 + 0.1 ln(factor)
  int64_t original_length = 0;  // yarn
  std::vector<float> divisors;  // rope_freqs: divisor of each pair's plain frequency; empty: none
};

// Expresses the rotation by one divisor per pair. Fails with error 64 for rotations that depend on the sequence length.
GgufRope gguf_rope_divisors(const RopeConfig& rope, int64_t head_dim);
// Expresses the rotation by keys alone; returns nothing if they cannot express it.
std::optional<GgufRope> gguf_rope_keys(const RopeConfig& rope, int64_t head_dim);

// Returns the largest difference between the cosines and sines, times the attention factor, of `keys` and of `rope`
// over positions [0, length).
double gguf_rope_deviation(const GgufRope& keys, const RopeConfig& rope, int64_t head_dim, int64_t length);

}  // namespace carillon
