#include "product.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda_bf16.h"

namespace carillon_emulation {
namespace {

template <class T>
T load(const void* data, cudaDataType_t type, std::int64_t at) {
  switch (type) {
    case CUDA_R_64F:
      return static_cast<T>(static_cast<const double*>(data)[at]);
    case CUDA_R_32F:
      return static_cast<T>(static_cast<const float*>(data)[at]);
    default:
      return static_cast<T>(__bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]));
  }
}

template <class T>
void store(void* data, cudaDataType_t type, std::int64_t at, T value) {
  switch (type) {
    case CUDA_R_64F:
      static_cast<double*>(data)[at] = static_cast<double>(value);
      break;
    case CUDA_R_32F:
      static_cast<float*>(data)[at] = static_cast<float>(value);
      break;
    default:
      static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(static_cast<float>(value));
  }
}

// One matrix of the batch, as `rows` contiguous elements for each of `columns`.
template <class T>
std::vector<T> packed(const ProductMatrix& x, std::int64_t batch, bool transpose) {
  std::vector<T> out(static_cast<std::size_t>(x.rows * x.columns));
  const std::int64_t base = batch * x.batch_stride;
  for (std::int64_t column = 0; column < x.columns; ++column)
    for (std::int64_t row = 0; row < x.rows; ++row)
      out[transpose ? row * x.columns + column : column * x.rows + row] =
          load<T>(x.data, x.type, base + column * x.leading + row);
  return out;
}

template <class T>
void multiply(const Product& p) {
  const std::int64_t m = p.d.rows, n = p.d.columns, inner = p.transpose_a ? p.a.rows : p.a.columns;
  std::vector<T> sums(static_cast<std::size_t>(m));
  for (std::int32_t batch = 0; batch < p.batches; ++batch) {
    const std::vector<T> a = packed<T>(p.a, batch, p.transpose_a), b = packed<T>(p.b, batch, p.transpose_b);
    for (std::int64_t column = 0; column < n; ++column) {
      std::fill(sums.begin(), sums.end(), T{0});
      for (std::int64_t k = 0; k < inner; ++k) {
        const T factor = b[column * inner + k];
        const T* from = a.data() + k * m;
        for (std::int64_t row = 0; row < m; ++row) sums[row] += from[row] * factor;
      }
      for (std::int64_t row = 0; row < m; ++row) {
        T value = static_cast<T>(p.alpha) * sums[row];
        if (p.beta != 0)  // otherwise c is not read, since it may contain NaN
          value += static_cast<T>(p.beta) *
                   load<T>(p.c.data, p.c.type, batch * p.c.batch_stride + column * p.c.leading + row);
        if (p.bias) value += load<T>(p.bias, p.bias_type, row);
        store(p.d.data, p.d.type, batch * p.d.batch_stride + column * p.d.leading + row, value);
      }
    }
  }
}

std::uint64_t delays = 0;

}  // namespace

std::uint64_t product_delays() { return delays; }

void do_product(const void* bytes) {
  Product product;
  std::memcpy(&product, bytes, sizeof(product));
  delays += product.delay;
  // Overwrite the workspace, so that work sharing it gets NaN.
  if (product.workspace) std::memset(product.workspace, 0xFF, product.workspace_bytes);
  if (product.wide)
    multiply<double>(product);
  else
    multiply<float>(product);
}

}  // namespace carillon_emulation
