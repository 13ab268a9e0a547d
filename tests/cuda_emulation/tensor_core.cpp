// Emulates the tensor-core instructions. Layouts: PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix".
#include "runtime/cuda/ops/tensor_core.h"

#include <cfloat>
#include <cmath>
#include <cstring>

#include "block.h"
#include "cuda_bf16.h"

namespace carillon_emulation {
namespace {

struct LoadOperand {
  const void* row;
  std::uint32_t out[4];
};

struct ProductOperand {
  float* d;
  const std::uint32_t* a;
  std::uint32_t b[2];
};

// Eight rows of 16 bytes are loaded at once, without conflict if they lie in eight different groups of four banks.
int extra_wavefronts(void* const* operands, int matrix) {
  int rows_of_group[8] = {}, most = 1;
  for (int r = 0; r < 8; ++r) {
    const auto address = reinterpret_cast<std::uintptr_t>(static_cast<LoadOperand*>(operands[8 * matrix + r])->row);
    most = std::max(most, ++rows_of_group[address / 16 % 8]);
  }
  return most - 1;
}

template <bool kTransposed>
void perform_ldmatrix(void* const* operands) {
  KernelCounters& counters = running_warp().counters;
  for (int j = 0; j < 4; ++j) {
    std::uint16_t matrix[8][8];
    for (int r = 0; r < 8; ++r) std::memcpy(matrix[r], static_cast<LoadOperand*>(operands[8 * j + r])->row, 16);
    ++counters.ldmatrix_phases;
    counters.ldmatrix_conflicts += extra_wavefronts(operands, j);
    for (int lane = 0; lane < 32; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const std::uint16_t low = kTransposed ? matrix[2 * t][g] : matrix[g][2 * t];
      const std::uint16_t high = kTransposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
      static_cast<LoadOperand*>(operands[lane])->out[j] = low | static_cast<std::uint32_t>(high) << 16;
    }
  }
}

float half_of(std::uint32_t pair, int high) {
  return __bfloat162float({static_cast<std::uint16_t>(high ? pair >> 16 : pair & 0xffff)});
}

// Products of bfloat16 are exact in float32. The device sums the 16 products of an element with fewer roundings and
// truncates instead of rounding, in a way that is not documented; results agree to a few units in the last place.
void perform_mma(void* const* operands) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *static_cast<ProductOperand*>(operands[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + half] = half_of(mine.a[i], half);
    for (int i = 0; i < 2; ++i)
      for (int half = 0; half < 2; ++half) b[2 * t + 8 * i + half][g] = half_of(mine.b[i], half);
  }
  float sum[16][8] = {};
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) sum[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane) {
    float* d = static_cast<ProductOperand*>(operands[lane])->d;
    const int g = lane / 4, t = lane % 4;
    for (int e = 0; e < 4; ++e) d[e] += sum[g + 8 * (e >> 1)][2 * t + (e & 1)];
  }
  ++running_warp().counters.matrix_products;
}

void require_whole_warp(const char* name) {
  if (running_warp().lanes != 32) device_failure("%s needs a warp of 32 threads", name);
}

void require_shared(const char* name, const void* pointer) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0)
    device_failure("%s: %p is not 16-byte aligned", name, pointer);
  const auto* byte = static_cast<const unsigned char*>(pointer);
  const std::size_t bytes = running_block().launch->shared_bytes;
  if (byte < shared_memory || byte + 16 > shared_memory + bytes)
    device_failure("%s: byte %td is outside the block's %zu bytes of shared memory", name, byte - shared_memory, bytes);
}

void land(const PendingCopy& copy) {
  if (copy.valid)
    std::memcpy(copy.shared, copy.global, 16);
  else
    std::memset(copy.shared, 0, 16);
}

}  // namespace

void emulated_ldmatrix_x4(std::uint32_t (&out)[4], const void* row, bool transposed, const Place& place) {
  require_whole_warp("ldmatrix");
  require_shared("ldmatrix", row);
  LoadOperand operand{row, {}};
  if (transposed)
    warp_operation("ldmatrix_x4_trans", perform_ldmatrix<true>, &operand, place);
  else
    warp_operation("ldmatrix_x4", perform_ldmatrix<false>, &operand, place);
  std::memcpy(out, operand.out, sizeof(out));
}

void emulated_mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                           const Place& place) {
  require_whole_warp("mma_m16n8k16");
  ProductOperand operand{d, a, {b0, b1}};
  warp_operation("mma_m16n8k16", perform_mma, &operand, place);
}

void emulated_copy_async_16(void* shared, const void* global, bool valid) {
  require_shared("copy_async_16", shared);
  if (reinterpret_cast<std::uintptr_t>(global) % 16 != 0)
    device_failure("copy_async_16: global address %p is not 16-byte aligned", global);
  Block& block = running_block();
  AsyncCopies& mine = running_fibre().copies;
  mine.copies.push_back({shared, global, valid});
  if (block.modes.copies_early) land(mine.copies.back());
}

void emulated_copy_async_commit() {
  AsyncCopies& mine = running_fibre().copies;
  mine.groups.push_back(mine.copies.size());
}

void emulated_copy_async_wait(int newest_left) {
  Block& block = running_block();
  AsyncCopies& mine = running_fibre().copies;
  const int done = static_cast<int>(mine.groups.size()) - newest_left;
  if (done <= 0) return;
  const std::size_t copies = mine.groups[done - 1];
  if (!block.modes.copies_early)
    for (std::size_t i = 0; i < copies; ++i) land(mine.copies[i]);
  mine.copies.erase(mine.copies.begin(), mine.copies.begin() + static_cast<std::ptrdiff_t>(copies));
  mine.groups.erase(mine.groups.begin(), mine.groups.begin() + done);
  for (std::size_t& end : mine.groups) end -= copies;
}

void check_copies_waited_for(Fibre& fibre) {
  if (!fibre.copies.copies.empty())
    device_failure("the thread ends with %zu asynchronous copies that it never waited for", fibre.copies.copies.size());
}

float exp2_flushed(float x) {
  if (std::abs(x) < FLT_MIN) return 1.0f;
  const float result = std::exp2(x);
  return result < FLT_MIN ? 0.0f : result;
}

}  // namespace carillon_emulation
