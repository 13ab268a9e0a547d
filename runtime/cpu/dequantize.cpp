// Dequantisation on a CPU. For each nf4 block the sixteen possible values are computed once and then looked up.
#include <algorithm>
#include <array>

#include "runtime/cpu/cpu_backend.h"

namespace carillon {
namespace {

// Stores the values of codes [at, at + count), all of one block.
template <class T>
void look_up(T* to, const uint8_t* codes, int64_t at, int64_t count, const std::array<T, 16>& values) {
  int64_t i = 0;
  if (at % 2 != 0) to[i++] = values[codes[at / 2] & 15];
  for (; i + 1 < count; i += 2) {
    const uint8_t pair = codes[(at + i) / 2];
    to[i] = values[pair >> 4];
    to[i + 1] = values[pair & 15];
  }
  if (i < count) to[i] = values[codes[(at + i) / 2] >> 4];
}

}  // namespace

void CpuBackend::dequantize(Tensor y, const QuantizedMatrix& x) {
  if (y.rank() != 2 || y.size(0) != x.rows || y.size(1) != x.width || y.empty() || y.stride(1) != 1)
    return ReferenceBackend::dequantize(y, x);
  dispatch_floating(y.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using A = accumulate_t<T>;
    const uint8_t* codes = x.codes.data<uint8_t>();
    const int64_t blocks = x.row_blocks();
#pragma omp parallel for schedule(static) num_threads(threads_for(y.count()))
    for (int64_t row = 0; row < x.rows; ++row) {
      T* to = y.data<T>() + row * y.stride(0);
      const int64_t flat = x.flat(row), first = x.first_block(row);
      for (int64_t column = 0; column < x.width;) {
        const int64_t block = (flat + column) / kQuantizedBlock, at = row * x.width + column;
        const int64_t count = std::min(x.width - column, (block + 1) * kQuantizedBlock - flat - column);
        const int64_t scale_at = row * blocks + block - first;
        if (x.kind == Quantization::kNf4) {
          const A scale = static_cast<A>(nf4_scale(x.table.data<float>(), x.scales.data<uint8_t>()[scale_at], block));
          std::array<T, 16> values;
          for (size_t code = 0; code < 16; ++code) values[code] = T(static_cast<A>(nf4_numbers()[code]) * scale);
          look_up(to + column, codes, at, count, values);
        } else {
          const A scale = static_cast<A>(x.scales.data<float>()[scale_at]);
          for (int64_t i = 0; i < count; ++i)
            to[column + i] = T(static_cast<A>(static_cast<int8_t>(codes[at + i])) * scale);
        }
        column += count;
      }
    }
  });
}

}  // namespace carillon
