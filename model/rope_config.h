// A rotary scaling as settings: one form for Hugging Face's `rope_parameters` (v5), `rope_scaling` (v4) and the
// configuration's section `rope:`. model/rope.h computes frequencies from it.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace carillon {

using Json = nlohmann::ordered_json;

enum class RopeType {
  kNone,            // no rotation at all
  kDefault,         // Su et al., 2021
  kLinear,          // position interpolation, Chen et al., 2023
  kNtk,             // NTK-aware base change (Peng et al., 2023, eq. 16)
  kDynamic,         // ntk with a base that depends on the length, as Hugging Face defines it; with alpha a fixed one
  kNtkByParts,      // Peng et al., 2023, eq. 18-20: ramp linear in the number of turns
  kYarn,            // Peng et al., 2023, as in every implementation: ramp linear in the pair index, and a temperature
  kLlama3,          // Llama 3.1's blend by wavelength
  kLongRope,        // Ding et al., 2024: a divisor per pair, one list for short and one for long sequences
  kProportional,    // p-RoPE, Barbero et al., 2024: the slowest pairs do not turn at all
  kDistributional,  // 2410.01490: each pair unchanged or fully interpolated, whichever disturbs its angles less
  kClex,            // 2310.16450: log frequencies that follow a learned differential equation over the stretch
};

struct ClexWeights;

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  bool resonance = false;  // Wang et al., 2024: wavelengths rounded to integers, after any of the types
  int64_t cope = 0;        // Li et al., 2602.05258: number of slowest pairs that are faded, after any type; 0: none
  double base = 10000;
  double factor = 1;
  int64_t original_max_position_embeddings = 0;  // L, the length the model was trained at
  int64_t max_position_embeddings = 0;           // `dynamic` uses this as its L
  double beta_fast = 32;                         // yarn, ntk_by_parts: a pair with more turns within L is unchanged
  double beta_slow = 1;                          // and one with fewer turns is fully interpolated
  bool truncate = true;                          // yarn: round the ramp's ends outwards to whole pairs
  bool wavelength_blend = false;                 // yarn: blend wavelengths, not frequencies (`yarn_blend: wavelength`)
  std::optional<double> attention_factor;        // if given, replaces the method's own
  double mscale = 0, mscale_all_dim = 0;         // yarn, DeepSeek's form of the temperature
  double low_freq_factor = 0, high_freq_factor = 0;  // llama3
  std::vector<double> short_factor, long_factor;     // longrope, one entry per pair
  // longrope: each of several documents in one sequence uses the list for its own length (LongRoPE2, 2502.20082, mixed
  // context windows). false: all use the list for the sequence's length.
  bool mixed_windows = false;
  double disturbance_threshold = 0;  // distributional: excess disturbance above which a pair is interpolated
  double partial_rotary_factor = 1;
  // clex: the hidden width divided by twice the pairs, the step of the integration, and the activation.
  int64_t param_factor = 1;
  double time_step = 0.01;
  enum class Activation { kTanh, kSilu } activation = Activation::kTanh;
  // clex: the learned weights; absent: nothing learned yet, which is ntk with factor 2t − 1. Whoever has a model's
  // weights sets this; it is not part of the settings.
  std::shared_ptr<const ClexWeights> dynamics;
  std::optional<double> alpha;  // dynamic, Hunyuan: base · alpha^(d/(d-2)), whatever the length
  // Queries are multiplied by 1 + beta · ln(1 + floor(position / original_max_position_embeddings)) after the rotation.
  double llama_4_scaling_beta = 0;
  std::optional<int64_t> length;  // fixes the sequence length that dynamic, longrope and clex depend on

  // The settings as given, in Hugging Face's v5 names (`rope_type`, `rope_theta`, …) plus `resonance`; what files
  // store.
  Json settings;

  // Whether the frequencies depend on the sequence length.
  bool follows_length() const {
    return (type == RopeType::kDynamic && !alpha) || type == RopeType::kLongRope || type == RopeType::kClex;
  }
};

// Reads settings in v5 names. Accepts `type` and `base` for `rope_type` and `rope_theta`, `su` for longrope, and
// `resonance_yarn` for yarn with resonance. max_position_embeddings is the model's, and replaces a missing
// original_max_position_embeddings. A missing or impossible value throws an Error with `code` that names key and
// `where`.
RopeConfig parse_rope_config(const Json& settings, int64_t max_position_embeddings, const std::string& where,
                             ExitCode code);

// Merges `overrides` key by key over the settings of `base`. A different type drops the old type's keys. rope_theta,
// resonance, cope, original_max_position_embeddings, length and llama_4_scaling_beta belong to no type and are kept,
// and so is partial_rotary_factor unless the old or the new type is proportional. Errors are 64.
RopeConfig merge_rope_config(const RopeConfig& base, const Json& overrides, const std::string& where);

// "yarn" and so on; "resonance_yarn" is not among them.
std::string name_of(RopeType type);

// The type with its modifiers, human-readable: "resonance yarn", "default with its 20 slowest pairs faded".
std::string describe(const RopeConfig& config);

}  // namespace carillon
