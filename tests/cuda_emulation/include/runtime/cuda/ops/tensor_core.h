// Replaces runtime/cuda/ops/tensor_core.h, and is found before it, when kernels are compiled for the emulation: the
// same names, with the fragment layouts of the PTX ISA, "Warp-level matrix instructions".
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The dynamic shared array of a block, of which the first dynamicSmemBytes may be accessed.
inline constexpr std::size_t kEmulatedSharedBytes = 227 * 1024;
extern unsigned char shared_memory[kEmulatedSharedBytes];

namespace carillon_emulation {

using Place = std::source_location;
void emulated_ldmatrix_x4(std::uint32_t (&out)[4], const void* row, bool transposed, const Place& place);
void emulated_mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                           const Place& place);
void emulated_copy_async_16(void* shared, const void* global, bool valid);
void emulated_copy_async_commit();
void emulated_copy_async_wait(int newest_left);
float exp2_flushed(float x);

}  // namespace carillon_emulation

// Loads four 8x8 matrices of 16-bit elements; lanes 8j..8j+7 pass the addresses of the rows of matrix j.
inline void ldmatrix_x4(std::uint32_t (&out)[4], const void* row,
                        carillon_emulation::Place place = carillon_emulation::Place::current()) {
  carillon_emulation::emulated_ldmatrix_x4(out, row, false, place);
}
inline void ldmatrix_x4_trans(std::uint32_t (&out)[4], const void* row,
                              carillon_emulation::Place place = carillon_emulation::Place::current()) {
  carillon_emulation::emulated_ldmatrix_x4(out, row, true, place);
}

// d[16, 8] += a[16, 16] b[16, 8]: bfloat16 operands, accumulated in float32.
inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                         carillon_emulation::Place place = carillon_emulation::Place::current()) {
  carillon_emulation::emulated_mma_m16n8k16(d, a, b0, b1, place);
}

// Copies 16 bytes to shared memory, zeros if !valid; present after the wait for its group (with copies=early at once).
inline void copy_async_16(void* shared, const void* global, bool valid) {
  carillon_emulation::emulated_copy_async_16(shared, global, valid);
}
inline void copy_async_commit() { carillon_emulation::emulated_copy_async_commit(); }
template <int N>
void copy_async_wait() {
  carillon_emulation::emulated_copy_async_wait(N);
}

// 2^x, with denormal results and arguments flushed to zero (ex2.approx.ftz.f32).
inline float exp2_fast(float x) { return carillon_emulation::exp2_flushed(x); }
