// Attention: what CudaBackend checks before the kernels of attention_*.cu.
#include "runtime/cuda/attention_kernels.h"
#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"
#include "runtime/cuda/operands.h"

namespace carillon {
namespace {

using namespace cuda;

Type attention_type(const Tensor& x) { return static_cast<Type>(x.dtype()); }

HeadsView heads_view(const Tensor& x, DType dtype) {
  CHECK(x.rank() == 4 && x.dtype() == dtype, "[B, T, heads, HD] of one type", describe(x), name_of(dtype));
  check_rows(x);
  return {x.raw(), x.stride(0), x.stride(1), x.stride(2)};
}
StatisticView statistic_view(const Tensor& x, DType dtype) {
  CHECK(x.rank() == 3 && x.dtype() == dtype, "[B, NH, T] of one type", describe(x), name_of(dtype));
  check_rows(x);
  return {x.raw(), x.stride(0), x.stride(1)};
}

// x is [B, T, heads, HD] in the compute type.
AttentionRows rows_of(const Tensor& x, const Tensor& statistic) {
  CHECK(statistic.size(0) == x.size(0) && statistic.size(1) == x.size(2) && statistic.size(2) == x.size(1),
        "one number a row and head", describe(statistic), describe(x));
  return {attention_type(x), x.size(0), x.size(1), static_cast<int>(x.size(2)), static_cast<int>(x.size(3))};
}

AttentionProblem problem_of(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionMask& mask,
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

// A state does not know its compute type: the kernels that touch nothing but the state ask for A alone.
AttentionRows rows_of_state(const AttentionState& state) { return rows_of(state.accumulator, state.maximum); }

}  // namespace

void CudaBackend::attention_begin(const AttentionState& state) {
  const DType wide = state.accumulator.dtype();
  CHECK_CUDA(launch_attention_begin(rows_of_state(state), statistic_view(state.maximum, wide),
                                    statistic_view(state.sum, wide), on_device()));
}

void CudaBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v,
                                    const AttentionMask& mask, double scale) {
  const DType wide = accumulate_type(q.dtype());
  CHECK(state.accumulator.shape() == q.shape(), "attention shapes", carillon::describe(state.accumulator),
        carillon::describe(q));
  rows_of(q, state.maximum), rows_of(q, state.sum);
  const AttentionForward args{problem_of(q, k, v, mask, scale), heads_view(state.accumulator, wide),
                              statistic_view(state.maximum, wide), statistic_view(state.sum, wide)};
  CHECK_CUDA(launch_attention_forward(args, on_device()));
}

void CudaBackend::attention_finish(Tensor out, Tensor lse, const AttentionState& state) {
  const DType wide = accumulate_type(out.dtype());
  CHECK(state.accumulator.shape() == out.shape(), "attention shapes", carillon::describe(state.accumulator),
        carillon::describe(out));
  CHECK_CUDA(launch_attention_finish(rows_of(out, lse), heads_view(out, out.dtype()), statistic_view(lse, wide),
                                     heads_view(state.accumulator, wide), statistic_view(state.maximum, wide),
                                     statistic_view(state.sum, wide), on_device()));
}

void CudaBackend::attention_delta(Tensor delta, Tensor dout, Tensor out) {
  CHECK(dout.shape() == out.shape(), "attention shapes", carillon::describe(dout), carillon::describe(out));
  CHECK_CUDA(launch_attention_delta(rows_of(out, delta), statistic_view(delta, accumulate_type(out.dtype())),
                                    heads_view(dout, out.dtype()), heads_view(out, out.dtype()), on_device()));
}

void CudaBackend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                     Tensor lse, Tensor delta, const AttentionMask& mask, double scale) {
  const DType wide = accumulate_type(q.dtype());
  CHECK(dq.shape() == q.shape() && dout.shape() == q.shape() && dk.shape() == k.shape() && dv.shape() == v.shape(),
        "attention shapes", carillon::describe(dq), carillon::describe(dk), carillon::describe(dv));
  rows_of(q, lse), rows_of(q, delta);
  const AttentionBackward args{
      problem_of(q, k, v, mask, scale), heads_view(dq, wide),      heads_view(dk, wide),       heads_view(dv, wide),
      heads_view(dout, q.dtype()),      statistic_view(lse, wide), statistic_view(delta, wide)};
  CHECK_CUDA(launch_attention_backward(args, on_device()));
}

}  // namespace carillon
