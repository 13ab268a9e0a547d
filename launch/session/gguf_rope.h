// A rotation in llama.cpp's words, and what it computes from them (ggml_rope in ggml-cpu/ops.cpp).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/rope_config.h"

namespace carillon {

struct GgufRope {
  double base = 10000;          // rope.freq_base
  std::string type;             // rope.scaling.type: "none", "linear" or "yarn"; empty: left out
  double factor = 1;            // rope.scaling.factor
  double attention_factor = 1;  // rope.scaling.attn_factor; yarn multiplies it by its own 1 + 0.1 ln(factor)
  int64_t original_length = 0;  // yarn
  std::vector<float> divisors;  // rope_freqs: what each pair's plain frequency is divided by; empty: none
};

// By a divisor a pair, which says every rotation but those that follow the length: error 64.
GgufRope gguf_rope_divisors(const RopeConfig& rope, int64_t head_dim);
// By the keys alone; nothing where they cannot say it.
std::optional<GgufRope> gguf_rope_keys(const RopeConfig& rope, int64_t head_dim);

// The largest difference of cosines and sines, times the attention factor, from those of `rope`, over positions
// [0, length).
double gguf_rope_deviation(const GgufRope& keys, const RopeConfig& rope, int64_t head_dim, int64_t length);

}  // namespace carillon
