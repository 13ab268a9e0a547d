// Counter-based dropout (runtime/dropout.h), with the generator of runtime/rng.h as device code.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

// Columns per thread: exactly one block of the generator if the tensor starts at a block's first column.
constexpr int kColumns = 4;

struct Words {
  uint32_t value[4];
};

__device__ __forceinline__ Words philox(uint64_t key, uint64_t low, uint64_t high) {
  Words word = {{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32), static_cast<uint32_t>(high),
                 static_cast<uint32_t>(high >> 32)}};
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * word.value[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * word.value[2];
    word = {{static_cast<uint32_t>(product1 >> 32) ^ word.value[1] ^ key0, static_cast<uint32_t>(product1),
             static_cast<uint32_t>(product0 >> 32) ^ word.value[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return word;
}

struct Job {
  RowGrid grid;
  DropoutRows args;
};

template <class T>
__global__ void dropout_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  const DropoutRows& args = job.args;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    const T* x = static_cast<const T*>(args.x.data) + at.row * args.x.stride;
    T* y = static_cast<T*>(args.y.data) + at.row * args.y.stride;
    int64_t drawn = -1;
    Words words = {};
    for (int64_t c = at.pack * kColumns; c < args.channels && c < (at.pack + 1) * kColumns; ++c) {
      const int64_t column = args.first_column + c, block = column / 4;
      if (block != drawn)
        words = philox(args.key, static_cast<uint64_t>(args.row[at.row]), static_cast<uint64_t>(block));
      drawn = block;
      const bool dropped = words.value[column % 4] < args.threshold;
      const A kept = dropped ? A(0) : convert<A>(x[c]) * static_cast<A>(args.scale);
      y[c] = convert<T>(args.accumulate ? convert<A>(y[c]) + kept : kept);
    }
  }
}

}  // namespace

cudaError_t launch_dropout(const DropoutRows& args, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    const Job job{RowGrid(args.rows, divide_up(args.channels, int64_t{kColumns})), args};
    return launch(dropout_kernel<T>, job.grid, stream, job);
  });
}

}  // namespace carillon::cuda
