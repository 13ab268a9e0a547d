// Counter-based random numbers: a pure function of (seed, stream, index) without state. An element of a tensor
// therefore gets the same number on every layout, thread and machine, and a checkpoint need not store a state.
// Generator: Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace carillon {

// Ten Philox rounds on one 128-bit counter with a 64-bit key; returns four independent 32-bit words.
constexpr std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  std::array<uint32_t, 4> word = {static_cast<uint32_t>(counter_low), static_cast<uint32_t>(counter_low >> 32),
                                  static_cast<uint32_t>(counter_high), static_cast<uint32_t>(counter_high >> 32)};
  uint32_t key0 = static_cast<uint32_t>(key);
  uint32_t key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * word[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * word[2];
    word = {static_cast<uint32_t>(product1 >> 32) ^ word[1] ^ key0, static_cast<uint32_t>(product1),
            static_cast<uint32_t>(product0 >> 32) ^ word[3] ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return word;
}

// The number of a stream from its name ("model.layers.0.mlp.up_proj.weight"): FNV-1a. It must never change, since
// reproducing a run depends on it.
constexpr uint64_t stream_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

// 64 uniform bits.
constexpr uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index) {
  const auto word = philox(seed, index, stream);
  return uint64_t{word[1]} << 32 | word[0];
}

// Uniform integer in [0, bound) by multiply-shift; the bias is at most 2^-64 · bound.
constexpr uint64_t random_below(uint64_t bound, uint64_t seed, uint64_t stream, uint64_t index) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(random_bits(seed, stream, index)) * bound) >> 64);
}

// Uniform in (0, 1) with 53 bits; never 0, so its logarithm is finite.
constexpr double random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  return (static_cast<double>(random_bits(seed, stream, index) >> 11) + 0.5) * 0x1.0p-53;
}

// Standard normal by the Box-Muller transform; uses one block of the generator per element.
inline double random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
  const auto word = philox(seed, index, stream);
  const double u = (static_cast<double>((uint64_t{word[1]} << 32 | word[0]) >> 11) + 0.5) * 0x1.0p-53;
  const double v = (static_cast<double>((uint64_t{word[3]} << 32 | word[2]) >> 11) + 0.5) * 0x1.0p-53;
  return std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
}

}  // namespace carillon
