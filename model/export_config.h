// config.json for other programs: rotations that they know keep their names, all others become longrope factors.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"

namespace carillon {

// Writes `config` with its rope. default, linear, dynamic, llama3, longrope and proportional keep their names. ntk
// becomes a default rope with another rope_theta. yarn, ntk_by_parts, distributional and everything with resonance or
// CoPE become longrope with factors f_i = 1 / (θ_i · base^(2i/d)), the same list for short and long sequences, and an
// explicit attention factor; a pair that does not rotate gets a factor so large that no position moves it. The exact
// definition is stored in `carillon_rope`, which parse_model_config reads. `dtype`: the weights' type. Fails with error
// 64 for resonance or CoPE over dynamic (which no list of factors can express), for none, and for anything the family's
// class does not compute.
std::string export_model_config(const ModelConfig& config, const std::string& dtype);

// The exact definition of the model's rotation, as stored in `carillon_rope`.
Json exact_rope(const ModelConfig& config);

// Whether the ramp of a YaRN among these rotations is not rounded. The classes whose rotation differs by kind of layer
// read this beside the kinds, for all of them: it is the same for both.
bool untruncated(const ModelRope& ropes);

// What the model does and its family's class in transformers does not, whatever its config.json says: one entry for
// each, with the key that says it and words for it. Such a model is not exported, and a file of transformers' that asks
// for it gets a remark.
struct LeftOut {
  std::string key, what;
};
std::vector<LeftOut> left_out_by_transformers(const ModelConfig& config);

// The largest difference, over positions [0, length), between our cosines and sines and those that transformers
// computes in float32 from an exported config.json.
double largest_rotation_deviation(const ModelConfig& original, const ModelConfig& exported, int64_t length);

}  // namespace carillon
