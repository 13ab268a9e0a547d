// y += u · B with a short inner dim (kernels/update.h), for which oneDNN took up to six times as long (figures in
// tests/benchmarks/README.md, "What an adapter costs").
#include <algorithm>

#include "runtime/cpu/cpu_backend.h"

namespace carillon {
namespace {

constexpr int64_t kMostInner = 64;   // beyond this, the products cost more than loading and storing y
constexpr int64_t kRowsAtOnce = 64;  // rows of y per work item of a thread

// The packed right operand, [columns] by words of the inner dim. A matrix [inner, columns] is packed as lanes, its
// transpose as panels.
struct Right {
  const void* packed;
  int64_t panel, word;
};

template <class T>
Right pack_right(const cpu::Kernels<T>& kernels, GrowingBuffer& memory, Tensor b, bool transposed) {
  using A = accumulate_t<T>;
  const int64_t inner = b.size(transposed ? 1 : 0), columns = b.size(transposed ? 0 : 1), depth = kernels.words(inner);
  const T* from = b.data<T>();
  if (transposed) {
    A* packed = memory.get<A>(cpu::round_to_panel(columns) * depth);
    for (int64_t column = 0; column < columns; column += cpu::kPanel)
      kernels.pack_panel(packed + column * depth, from + column * b.stride(0), b.stride(0),
                         std::min(cpu::kPanel, columns - column), inner);
    return {packed, cpu::kPanel * depth, cpu::kPanel};
  }
  const int64_t width = cpu::padded_width(columns);
  A* packed = memory.get<A>(width * depth + cpu::kPanel);  // the kernel may read past the last word, a whole panel
  kernels.pack_lanes(packed, from, b.stride(0), inner, columns);
  std::fill_n(packed + width * depth, cpu::kPanel, A{});
  return {packed, cpu::kPanel, width};
}

}  // namespace

bool CpuBackend::takes_update(const Tensor& c, const Tensor& a, bool transpose_a, bool accumulate) const {
  return accumulate && !transpose_a && c.dtype() == DType::kBFloat16 && a.dtype() == c.dtype() &&
         a.size(1) <= kMostInner && c.size(0) >= kRowsAtOnce;
}

void CpuBackend::update(Tensor c, Tensor a, Tensor b, bool transpose_b) {
  using T = bfloat16;
  const cpu::Kernels<T>& kernels = cpu::kernels<T>(instruction_set_);
  const Right right = pack_right(kernels, packed_right_, b, transpose_b);
  const int64_t rows = c.size(0), inner = a.size(1), blocks = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
#pragma omp parallel for schedule(static) num_threads(threads_for_products(c.count() * inner))
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = block * kRowsAtOnce, count = std::min(kRowsAtOnce, rows - first);
    alignas(64) accumulate_t<T> left[kRowsAtOnce * kMostInner];
    kernels.pack_rows(left, a.data<T>() + first * a.stride(0), a.stride(0), count, inner);
    kernels.update_rows({c.data<T>() + first * c.stride(0), c.stride(0), left, right.packed, right.panel, right.word,
                         count, c.size(1), inner});
  }
}

}  // namespace carillon
