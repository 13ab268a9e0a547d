// Dequantisation (runtime/quantization.h): each thread converts a few columns of a row, and computes the scale at the
// start of each quantised block.
#include "runtime/cuda/ops/device_code.h"

namespace carillon::cuda {
namespace {

constexpr int kColumns = 8;
constexpr int64_t kBlock = 64, kScalesBlock = 256;
// ScaleTable of runtime/quantization.h.
constexpr int64_t kScaleNumbers = 16, kMean = kScaleNumbers + 256, kScales = kMean + 1;

struct Job {
  RowGrid grid;
  Dequantize args;
};

template <class A>
__device__ __forceinline__ A scale_of(const Dequantize& args, int64_t at, int64_t block) {
  if (!args.nf4) return static_cast<A>(static_cast<const float*>(args.scales)[at]);
  // The same as nf4_scale in runtime/quantization.h: the product is exact, the sum is rounded to float64, then float32.
  const float number = args.table[kScaleNumbers + static_cast<const uint8_t*>(args.scales)[at]];
  const double scale = static_cast<double>(number) * static_cast<double>(args.table[kScales + block / kScalesBlock]) +
                       static_cast<double>(args.table[kMean]);
  return static_cast<A>(static_cast<float>(scale));
}

template <class T>
__global__ void dequantize_kernel(const __grid_constant__ Job job) {
  using A = Accumulate<T>;
  const Dequantize& args = job.args;
  for (RowGrid::Place at = job.grid.first(); at.row < job.grid.rows; at.row += at.step) {
    T* y = static_cast<T*>(args.y.data) + at.row * args.y.stride;
    const int64_t flat = (args.first_row + at.row) * args.columns + args.first_column, first = flat / kBlock;
    int64_t known = -1;
    A scale = A(0);
    for (int64_t c = at.pack * kColumns; c < args.width && c < (at.pack + 1) * kColumns; ++c) {
      const int64_t block = (flat + c) / kBlock, code_at = at.row * args.width + c;
      if (block != known) scale = scale_of<A>(args, at.row * args.row_blocks + block - first, block);
      known = block;
      A value;
      if (args.nf4) {
        const uint8_t pair = args.codes[code_at / 2];
        value = static_cast<A>(args.table[code_at % 2 == 0 ? pair >> 4 : pair & 15]);
      } else {
        value = static_cast<A>(static_cast<signed char>(args.codes[code_at]));
      }
      y[c] = convert<T>(value * scale);
    }
  }
}

}  // namespace

cudaError_t launch_dequantize(const Dequantize& args, cudaStream_t stream) {
  return dispatch_type(args.type, [&](auto zero) {
    using T = decltype(zero);
    const Job job{RowGrid(args.rows, divide_up(args.width, int64_t{kColumns})), args};
    return launch(dequantize_kernel<T>, job.grid, stream, job);
  });
}

}  // namespace carillon::cuda
