// The Intel AMX instructions that attention uses, on eight tiles of 16 rows of 64 bytes. tests/amx_emulation implements
// the same functions in plain loops. Written in assembly because g++ 12's intrinsics for loading tiles and their
// configuration do not declare which memory they read.
#pragma once

#include <cstdint>

namespace carillon::cpu::amx_tile {
namespace {

inline constexpr int kRows = 16;   // of a tile
inline constexpr int kWords = 16;  // words of 32 bits per row: 16 sums, or 16 pairs of bfloat16

// Configures all tiles of this thread with their full size, and zeroes them.
inline void configure() {
  struct alignas(64) Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } configuration{1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
  static_assert(sizeof(Configuration) == 64);
  asm volatile("ldtilecfg %0" : : "m"(configuration));
}
// Releases the tiles, so that a context switch need not save them.
inline void release() { asm volatile("tilerelease"); }

template <int tile>
__attribute__((always_inline)) inline void zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(tile));
}
// `stride` is the distance between rows in bytes.
template <int tile>
__attribute__((always_inline)) inline void load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
__attribute__((always_inline)) inline void save(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(tile) : "memory");
}
// sums[m][n] += Σ_k left[m][k] · right[k][n]; each word of left and right is a pair of bfloat16, and both products of
// two pairs are added.
template <int sums, int left, int right>
__attribute__((always_inline)) inline void add_products() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sums), "i"(left), "i"(right));
}

}  // namespace
}  // namespace carillon::cpu::amx_tile
