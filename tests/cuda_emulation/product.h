// The command that cublasLtMatmul queues on a stream, and its execution in the device process (product.cpp).
#pragma once

#include <cstdint>

#include "library_types.h"

namespace carillon_emulation {

struct ProductMatrix {
  void* data;
  cudaDataType_t type;
  std::int64_t rows, columns, leading, batch_stride;  // column-major
};

struct Product {
  ProductMatrix a, b, c, d;  // d = alpha op(a) op(b) + beta c (+ bias of d's rows)
  const void* bias;
  cudaDataType_t bias_type;
  bool transpose_a, transpose_b, wide;  // wide: computed in float64, else float32
  std::int32_t batches;
  double alpha, beta;
  void* workspace;
  std::uint64_t workspace_bytes;
  std::uint64_t delay;  // nanoseconds that the product takes longer, by the events' clock
};

void do_product(const void* product);
// The delays of all products so far in this process, which the clock of events is ahead of real time.
std::uint64_t product_delays();

}  // namespace carillon_emulation
