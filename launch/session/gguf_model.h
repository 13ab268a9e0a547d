// Maps a ModelConfig to llama.cpp's names: the keys and tensors of a GGUF.
//
// Four of llama.cpp's architectures are supported. Each computes the block given here (src/models/ there):
//
//   llama    norms before, SwiGLU, any biases, no q/k norms, no windows; rotates row pairs (2j, 2j+1), so q and k are
//            permuted; any rotation, as rope_freqs (divisors of the plain frequencies) and an attention factor
//   qwen2    as llama, with biases of q, k, v; rotates halves; only rotations that its keys can express, otherwise the
//            model is written as llama
//   qwen3    norms of q and k over each head
//   gemma3   norms before and after, windows on five layers of six, which use the plain rotation with another base
//
// The keys of qwen2, qwen3 and gemma3 can express another base (also ntk), linear, yarn with its default betas and
// whole ramp ends, and an attention factor.
#pragma once

#include <string>
#include <vector>

#include "data/formats/gguf_export.h"
#include "model/config.h"

namespace carillon {

struct GgufModel {
  std::string architecture;
  GgufKeys keys;  // all except the tokenizer's and general.file_type
  std::vector<GgufTensor> tensors;
  // Largest difference, over positions [0, context_length), between our cosines and sines and those that llama.cpp
  // computes in float32 from these keys.
  double largest_deviation = 0;
  int64_t context_length = 0;
};

// `name` becomes general.name. Fails with error 64 naming the feature if no architecture of llama.cpp computes the
// model.
GgufModel gguf_model(const ModelConfig& config, const std::string& name);

}  // namespace carillon
