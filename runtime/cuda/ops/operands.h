// Converts tensors to the plain structs of kernels.h.
#pragma once

#include "runtime/cuda/ops/kernels.h"
#include "runtime/tensor.h"

namespace carillon::cuda {

static_assert(static_cast<int>(Type::kFloat64) == static_cast<int>(DType::kFloat64) &&
              static_cast<int>(Type::kFloat32) == static_cast<int>(DType::kFloat32) &&
              static_cast<int>(Type::kBFloat16) == static_cast<int>(DType::kBFloat16) &&
              static_cast<int>(Type::kInt64) == static_cast<int>(DType::kInt64) &&
              static_cast<int>(Type::kUInt8) == static_cast<int>(DType::kUInt8));
inline Type type_of(DType dtype) { return static_cast<Type>(dtype); }
inline Type type_of(const Tensor& x) { return type_of(x.dtype()); }

// Describes tensors of one shape and any types, merging dims that are contiguous in all of them; a and b may be absent.
Elementwise elementwise(Tensor y, Tensor a = {}, Tensor b = {});

inline void check_rows(const Tensor& x) {
  CHECK(x.rank() >= 1 && (x.size(-1) <= 1 || x.stride(-1) == 1), "rows whose elements lie side by side", describe(x));
}
inline Matrix matrix(const Tensor& x) {
  CHECK(x.rank() == 2, "a matrix", describe(x));
  check_rows(x);
  return {x.raw(), x.stride(0)};
}
inline ConstMatrix const_matrix(const Tensor& x) {
  const Matrix result = matrix(x);
  return {result.data, result.stride};
}

// The data of a tensor that must be packed and of this type.
inline void* packed(const Tensor& x, DType dtype) {
  CHECK(x.packed() && x.dtype() == dtype, "a packed tensor of one type", describe(x), name_of(dtype));
  return x.raw();
}
inline const int64_t* indices(const Tensor& x) { return static_cast<const int64_t*>(packed(x, DType::kInt64)); }

}  // namespace carillon::cuda
