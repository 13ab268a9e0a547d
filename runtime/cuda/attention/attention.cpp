// Attention: what CudaBackend checks before the kernels of attention_*.cu.
#include "runtime/cuda/attention/attention_operands.h"
#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"

namespace carillon {
namespace {

using namespace cuda;

// A state does not know its compute type: the kernels that touch nothing but the state ask for A alone.
AttentionRows rows_of_state(const AttentionState& state) { return rows_of(state.accumulator, state.maximum); }

}  // namespace

void CudaBackend::attention_begin(const AttentionState& state, Tensor sinks) {
  const DType wide = state.accumulator.dtype();
  if (sinks) {
    CHECK(sinks.count() == state.maximum.size(1), "one sink a head", carillon::describe(sinks),
          carillon::describe(state.maximum));
    fill(state.accumulator, 0);
  }
  CHECK_CUDA(launch_attention_begin(rows_of_state(state), statistic_view(state.maximum, wide),
                                    statistic_view(state.sum, wide), sinks ? packed(sinks, sinks.dtype()) : nullptr,
                                    sinks ? type_of(sinks) : Type::kFloat32, on_device()));
}

void CudaBackend::attention_sinks_backward(Tensor dsinks, Tensor sinks, Tensor lse, Tensor delta) {
  const DType wide = accumulate_type(sinks.dtype());
  CHECK(lse.rank() == 3 && lse.shape() == delta.shape() && sinks.count() == lse.size(1) &&
            dsinks.count() == sinks.count(),
        "one sink a head", carillon::describe(sinks), carillon::describe(lse));
  AttentionRows rows;
  rows.type = type_of(sinks);
  rows.batch = lse.size(0), rows.heads = static_cast<int>(lse.size(1)), rows.rows = lse.size(2);
  CHECK_CUDA(launch_attention_sinks_backward(rows, packed(dsinks, wide), packed(sinks, sinks.dtype()),
                                             statistic_view(lse, wide), statistic_view(delta, wide), on_device()));
}

void CudaBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v,
                                    const AttentionMask& mask, double scale) {
  if (fused_forward(state, q, k, v, mask, scale)) return;
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
