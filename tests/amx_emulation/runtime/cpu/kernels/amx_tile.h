// The counterpart of runtime/cpu/kernels/amx_tile.h in plain loops. Tests compile kernels/amx.cpp with this header
// first in the include path, so the code around the tiles runs on processors without AMX. The semantics of each
// instruction follow Intel's manual (volume 2, LDTILECFG, TILELOADD, TDPBF16PS), for the only configuration in use: all
// tiles full. As in hardware, the program ends if a thread uses a tile without having configured its tiles, or after
// releasing them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace carillon::cpu::amx_tile {

inline constexpr int kRows = 16;
inline constexpr int kWords = 16;

struct Tiles {
  bool configured = false;
  uint32_t word[8][kRows][kWords];
};
inline thread_local Tiles tiles;

namespace {

inline uint32_t (&tile_of(int tile))[kRows][kWords] {
  if (!tiles.configured) {
    std::fputs("a tile was used that this thread has not configured\n", stderr);
    std::abort();
  }
  return tiles.word[tile];
}

inline void configure() {
  std::memset(tiles.word, 0, sizeof tiles.word);
  tiles.configured = true;
}
inline void release() { tiles.configured = false; }

template <int tile>
inline void zero() {
  std::memset(tile_of(tile), 0, sizeof tiles.word[tile]);
}
template <int tile>
inline void load(const void* from, int64_t stride) {
  for (int r = 0; r < kRows; ++r)
    std::memcpy(tile_of(tile)[r], static_cast<const char*>(from) + r * stride, sizeof tiles.word[tile][r]);
}
template <int tile>
inline void save(void* to, int64_t stride) {
  for (int r = 0; r < kRows; ++r)
    std::memcpy(static_cast<char*>(to) + r * stride, tile_of(tile)[r], sizeof tiles.word[tile][r]);
}

// Denormals are treated as zero, as inputs and as results.
inline float flushed(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits & 0x7f800000) == 0 ? bits & 0x80000000 : bits;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}
inline float number(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return flushed(value);
}

// The low and the high elements of the pairs are summed separately, in the order of k; then both sums are added to each
// other and to the previous value. Each addition rounds to nearest. (A product of two bfloat16 is exact in float, so a
// separate multiplication and addition rounds like a fused one.)
template <int sums, int left, int right>
inline void add_products() {
  const auto& a = tile_of(left);
  const auto& b = tile_of(right);
  auto& c = tile_of(sums);
  for (int m = 0; m < kRows; ++m) {
    float low[kWords] = {}, high[kWords] = {};
    for (int k = 0; k < kWords; ++k)
      for (int n = 0; n < kWords; ++n) {
        low[n] = flushed(low[n] + number(a[m][k] << 16) * number(b[k][n] << 16));
        high[n] = flushed(high[n] + number(a[m][k] & 0xffff0000) * number(b[k][n] & 0xffff0000));
      }
    for (int n = 0; n < kWords; ++n) {
      const float sum = flushed(number(c[m][n]) + flushed(low[n] + high[n]));
      std::memcpy(&c[m][n], &sum, sizeof sum);
    }
  }
}

}  // namespace
}  // namespace carillon::cpu::amx_tile
