// Converts attention's tensors to the plain structs of attention_kernels.h and checks their shapes.
#pragma once

#include "runtime/backend.h"
#include "runtime/cuda/attention/attention_kernels.h"
#include "runtime/cuda/ops/operands.h"

namespace carillon::cuda {

inline Type attention_type(const Tensor& x) { return static_cast<Type>(x.dtype()); }

inline HeadsView heads_view(const Tensor& x, DType dtype) {
  CHECK(x.rank() == 4 && x.dtype() == dtype, "[B, T, heads, HD] of one type", describe(x), name_of(dtype));
  check_rows(x);
  return {x.raw(), x.stride(0), x.stride(1), x.stride(2)};
}
inline StatisticView statistic_view(const Tensor& x, DType dtype) {
  CHECK(x.rank() == 3 && x.dtype() == dtype, "[B, NH, T] of one type", describe(x), name_of(dtype));
  check_rows(x);
  return {x.raw(), x.stride(0), x.stride(1)};
}

// x is [B, T, heads, HD] in the compute type.
inline AttentionRows rows_of(const Tensor& x, const Tensor& statistic) {
  CHECK(statistic.size(0) == x.size(0) && statistic.size(1) == x.size(2) && statistic.size(2) == x.size(1),
        "one number per row and head", describe(statistic), describe(x));
  return {attention_type(x), x.size(0), x.size(1), static_cast<int>(x.size(2)), static_cast<int>(x.size(3))};
}

inline AttentionProblem problem_of(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask,
                                   double scale) {
  const DType type = q.dtype();
  AttentionProblem problem;
  problem.q = heads_view(q, type), problem.k = heads_view(k, type), problem.v = heads_view(v, type);
  CHECK(k.shape() == v.shape() && k.size(0) == q.size(0) && k.size(3) == q.size(3) && k.size(2) > 0 &&
            q.size(2) % k.size(2) == 0,
        "attention shapes", describe(q), describe(k), describe(v));
  const auto index = [](const Tensor& x) {
    CHECK(x.dtype() == DType::kInt64, "indices are int64", describe(x));
    check_rows(x);
    return static_cast<const int64_t*>(x.raw());
  };
  CHECK(mask.query_index.count() == q.size(1) && mask.key_index.count() == k.size(1) && mask.first.rank() == 2 &&
            mask.first.size(0) == q.size(0) && mask.first.size(1) == q.size(1),
        "mask shapes", describe(mask.query_index), describe(mask.first), describe(mask.key_index));
  problem.type = attention_type(q);
  problem.batch = q.size(0), problem.rows = q.size(1), problem.keys = k.size(1);
  problem.heads = static_cast<int>(q.size(2)), problem.kv_heads = static_cast<int>(k.size(2));
  problem.head_size = static_cast<int>(q.size(3));
  problem.scale = scale;
  problem.query_index = index(mask.query_index);
  problem.first = index(mask.first), problem.first_batch = mask.first.stride(0);
  problem.key_index = index(mask.key_index);
  return problem;
}

}  // namespace carillon::cuda
