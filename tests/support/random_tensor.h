// Random tensors for op tests, optionally with gaps between rows, and the distance of two tensors.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/rng.h"

namespace carillon::testing {

// Owns the memory of a tensor whose last dim is packed, with a gap of `gap` elements between rows.
class RandomTensor {
 public:
  RandomTensor(DType dtype, std::vector<int64_t> shape, uint64_t stream, int64_t gap = 0, double scale = 1) {
    std::vector<int64_t> wide = shape;
    if (gap > 0) wide.back() += gap;
    int64_t count = 1;
    for (const int64_t size : wide) count *= size;
    memory_.resize(static_cast<size_t>(count) * size_of(dtype) + 1);
    Tensor all(memory_.data(), dtype, wide);
    tensor_ = gap > 0 ? all.slice(-1, 0, shape.back()) : all;
    dispatch_floating(dtype, [&](auto zero) {
      using T = decltype(zero);
      T* data = all.data<T>();
      for (int64_t i = 0; i < count; ++i) data[i] = T(scale * random_normal(17, stream, static_cast<uint64_t>(i)));
    });
  }
  operator Tensor() const { return tensor_; }
  Tensor tensor() const { return tensor_; }

 private:
  std::vector<char> memory_;
  Tensor tensor_;
};

// All elements as doubles, row-major.
inline std::vector<double> values_of(Tensor x) {
  std::vector<double> result;
  const auto reference = make_backend({.device = "reference"});
  std::vector<double> packed(static_cast<size_t>(x.count()));
  const std::vector<int64_t> shape = x.shape();
  reference->copy(Tensor(packed.data(), DType::kFloat64, shape), x);
  return packed;
}

// ‖a − b‖ / max(‖b‖, 1e-3); NaN if an element is NaN in either tensor.
inline double relative_distance(Tensor a, Tensor b) {
  const std::vector<double> va = values_of(a), vb = values_of(b);
  EXPECT_EQ(va.size(), vb.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < va.size(); ++i) {
    if (va[i] == vb[i]) {
      size += std::isfinite(vb[i]) ? vb[i] * vb[i] : 0;
      continue;
    }
    difference += (va[i] - vb[i]) * (va[i] - vb[i]);
    size += vb[i] * vb[i];
  }
  return std::sqrt(difference) / std::max(std::sqrt(size), 1e-3);
}

// The largest distance allowed between a fast backend and the reference: a few roundings of the accumulate type, one of
// the compute type.
inline double bound_of(DType dtype) {
  return dtype == DType::kFloat64 ? 1e-13 : dtype == DType::kFloat32 ? 2e-6 : 4e-3;
}

}  // namespace carillon::testing
