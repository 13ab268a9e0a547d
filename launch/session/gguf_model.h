// What llama.cpp calls a model's parts: keys and tensors of a GGUF for a ModelConfig.
//
// Four of its architectures are written, each the block that its source computes (src/models/ there):
//
//   llama    norms before, SwiGLU, any biases, no norms of q and k, no windows; pairs of rows (2j, 2j+1) turn, so q and
//   k
//            are permuted; any rotation, as rope_freqs (divisors of the plain frequencies) and an attention factor
//   qwen2    the same with biases of q, k, v; halves turn; rotations that its keys can say, else the model goes as
//   llama qwen3    norms of q and k over each head gemma3   norms before and after, windows on five layers of six,
//   whose rotation is a plain one of another base
//
// What the others' keys can say: another base (also ntk), linear, yarn with its own betas and whole ramp ends, and
// an attention factor.
#pragma once

#include <string>
#include <vector>

#include "data/formats/gguf_export.h"
#include "model/config.h"

namespace carillon {

struct GgufModel {
  std::string architecture;
  GgufKeys keys;  // all but the tokenizer's and general.file_type
  std::vector<GgufTensor> tensors;
  // Largest difference between our cosines and sines and those that llama.cpp computes in float32 from these keys, over
  // positions [0, context_length).
  double largest_deviation = 0;
  int64_t context_length = 0;
};

// `name`: for general.name. Error 64 naming what no architecture of llama.cpp computes.
GgufModel gguf_model(const ModelConfig& config, const std::string& name);

}  // namespace carillon
