// Rotary frequencies (RoPE, Su et al., 2021) under every scaling, and the tables of cosines and sines the rotation
// reads. All in float64, cast last: at a million tokens float32 angles are wrong in the second digit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/rope_config.h"
#include "runtime/tensor.h"

namespace carillon {

// One head's frequencies: pair j turns by position · inverse_frequency[j]; cosine and sine are both multiplied by
// attention_factor, so scores are by its square.
struct RopeTable {
  std::vector<double> inverse_frequency;  // [R] radians per token; 0: the pair does not turn
  std::vector<double> wavelength;         // [R] 2π / inverse_frequency before rounding; infinite when it does not turn
  std::vector<int64_t> period;            // [R] with resonance the rounded wavelength in tokens, else 0
  double attention_factor = 1;
};

// Pairs R of a head: head_dim / 2, fewer with partial rotary.
int64_t rotary_pairs(const RopeConfig& config, int64_t head_dim);

// `length`: of the sequence, in tokens, for the types that go by it (`rope.length` wins). The type's frequencies, then
// CoPE, then resonance. Error 64 when the settings do not fit the head: odd widths, ntk on a single pair, factor lists
// of another length, more faded pairs than there are.
RopeTable make_rope_table(const RopeConfig& config, int64_t head_dim, int64_t length);

// How much a pair's angles within `length` tokens at `frequency` differ from those within `trained` tokens at
// `trained_frequency` (2410.01490, section 3): both as shares of 360 equal bins of a turn, and of them
// Σ F·ln((F + ε)/(F_trained + ε)) with ε = 1e-8, which the paper leaves open. O(length + trained).
double disturbance(double frequency, int64_t length, double trained_frequency, int64_t trained);

// Real-valued ends of YaRN's ramp as pair indices, rounded when `truncate`, clamped as every implementation does.
struct YarnRamp {
  double low, high;
};
YarnRamp yarn_ramp(const RopeConfig& config, int64_t rotary_width);

// cosine, sine [positions.size(), R], float32 or float64: rows for the given positions, times the attention factor. A
// pair with a period p reads position mod p as an integer (Wang et al., 2024, section 3.2): its values repeat bit for
// bit whatever the table's length, rank and dtype.
void fill_rotation(const RopeTable& table, std::span<const int64_t> positions, Tensor cosine, Tensor sine);

}  // namespace carillon
