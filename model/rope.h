// Rotary frequencies (RoPE, Su et al., 2021) under every scaling, and the tables of cosines and sines that the rotation
// reads. Computed in float64 and cast last: at a million tokens, float32 angles are wrong in the second digit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/rope_config.h"
#include "runtime/tensor.h"

namespace carillon {

// The frequencies of a head: pair j turns by position · inverse_frequency[j]. Cosine and sine are both multiplied by
// attention_factor, so scores are multiplied by its square.
struct RopeTable {
  std::vector<double> inverse_frequency;  // [R] radians per token; 0: the pair does not turn
  std::vector<double> wavelength;  // [R] 2π / inverse_frequency before rounding; infinite if the pair does not turn
  std::vector<int64_t> period;     // [R] with resonance the rounded wavelength in tokens, otherwise 0
  double attention_factor = 1;
};

// Pairs R of a head: head_dim / 2, or fewer with a partial rotation.
int64_t rotary_pairs(const RopeConfig& config, int64_t head_dim);

// Applies the type's frequencies, then CoPE, then resonance. `length` is the sequence length in tokens, for types that
// depend on it (`rope.length` takes precedence). Fails with error 64 if the settings do not fit the head: odd widths,
// ntk on a single pair, factor lists of another length, more faded pairs than there are.
RopeTable make_rope_table(const RopeConfig& config, int64_t head_dim, int64_t length);

// How much a pair's angles within `length` tokens at `frequency` differ from those within `trained` tokens at
// `trained_frequency` (2410.01490, section 3): with F the shares of positions in 360 equal bins of a turn, this is
// Σ F·ln((F + ε)/(F_trained + ε)), where ε = 1e-8 (the paper leaves it open). O(length + trained).
double disturbance(double frequency, int64_t length, double trained_frequency, int64_t trained);

// The ends of YaRN's ramp as real-valued pair indices; rounded with `truncate`, clamped as in every implementation.
struct YarnRamp {
  double low, high;
};
YarnRamp yarn_ramp(const RopeConfig& config, int64_t rotary_width);

// Fills cosine, sine [positions.size(), R], float32 or float64, with rows for the given positions, times the attention
// factor. A pair with period p uses the integer position mod p (Wang et al., 2024, section 3.2), so its values repeat
// bit for bit for any table length, rank and dtype.
void fill_rotation(const RopeTable& table, std::span<const int64_t> positions, Tensor cosine, Tensor sine);

}  // namespace carillon
