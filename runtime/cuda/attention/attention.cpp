// CudaBackend's attention: checks the tensors and launches the kernels of attention_*.cu.
#include "runtime/attention_pieces.h"
#include "runtime/cuda/attention/attention_operands.h"
#include "runtime/cuda/attention/fused_sizes.h"
#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"

namespace carillon {
namespace {

using namespace cuda;

// A state has no compute type; kernels that access only the state need only A.
AttentionRows rows_of_state(const AttentionState& state) { return rows_of(state.accumulator, state.maximum); }

// The parts of a call's tensors that belong to a piece.
class Of {
 public:
  explicit Of(const MaskPiece& piece) : piece_(piece) {}
  Tensor rows(const Tensor& x, int dim) const { return x.slice(dim, piece_.row, piece_.row + piece_.rows); }
  Tensor keys(const Tensor& x, int dim = 1) const { return x.slice(dim, piece_.key, piece_.key + piece_.keys); }
  AttentionMask mask(const AttentionMask& mask) const {
    return {rows(mask.query_index, 0), rows(mask.first, 1), keys(mask.key_index, 0), mask.shape};
  }

 private:
  const MaskPiece& piece_;
};

}  // namespace

// The native kernels accept every mask in one piece.
std::vector<MaskPiece> CudaBackend::pieces(const AttentionMask& mask, const Tensor& q, const Tensor& k) const {
  return pieces_of(fused_takes({q}) ? mask.shape : MaskShape{}, q.size(1), k.size(1));
}

void CudaBackend::attention_begin(const AttentionState& state, Tensor sinks) {
  const DType wide = state.accumulator.dtype();
  if (sinks) {
    CHECK(sinks.count() == state.maximum.size(1), "one sink per head", carillon::describe(sinks),
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
        "one sink per head", carillon::describe(sinks), carillon::describe(lse));
  AttentionRows rows;
  rows.type = type_of(sinks);
  rows.batch = lse.size(0), rows.heads = static_cast<int>(lse.size(1)), rows.rows = lse.size(2);
  CHECK_CUDA(launch_attention_sinks_backward(rows, packed(dsinks, wide), packed(sinks, sinks.dtype()),
                                             statistic_view(lse, wide), statistic_view(delta, wide), on_device()));
}

void CudaBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v,
                                    const AttentionMask& mask, double scale) {
  const DType wide = accumulate_type(q.dtype());
  CHECK(state.accumulator.shape() == q.shape(), "attention shapes", carillon::describe(state.accumulator),
        carillon::describe(q));
  rows_of(q, state.maximum), rows_of(q, state.sum);
  for (const MaskPiece& piece : pieces(mask, q, k)) {
    const Of of(piece);
    const AttentionState part{of.rows(state.accumulator, 1), of.rows(state.maximum, 2), of.rows(state.sum, 2)};
    const Tensor queries = of.rows(q, 1), keys = of.keys(k), values = of.keys(v);
    if (fused_forward(part, queries, keys, values, of.mask(mask), piece.kind, scale)) continue;
    const AttentionForward args{problem_of(queries, keys, values, of.mask(mask), scale),
                                heads_view(part.accumulator, wide), statistic_view(part.maximum, wide),
                                statistic_view(part.sum, wide)};
    CHECK_CUDA(launch_attention_forward(args, on_device()));
  }
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
                                     Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask, double scale) {
  const DType wide = accumulate_type(q.dtype());
  CHECK(dq.shape() == q.shape() && dout.shape() == q.shape() && out.shape() == q.shape() && dk.shape() == k.shape() &&
            dv.shape() == v.shape(),
        "attention shapes", carillon::describe(dq), carillon::describe(dk), carillon::describe(dv));
  rows_of(q, lse), rows_of(q, delta);
  const auto on = [&](const MaskPiece& piece) {
    const Of of(piece);
    const Tensor queries = of.rows(q, 1), keys = of.keys(k), values = of.keys(v), gradient = of.rows(dout, 1),
                 statistic = of.rows(lse, 2), dqueries = of.rows(dq, 1), dkeys = of.keys(dk), dvalues = of.keys(dv);
    if (fused_backward(dqueries, dkeys, dvalues, queries, keys, values, gradient, of.rows(out, 1), statistic,
                       of.mask(mask), piece.kind, scale))
      return;
    const AttentionBackward args{problem_of(queries, keys, values, of.mask(mask), scale),
                                 heads_view(dqueries, wide),
                                 heads_view(dkeys, wide),
                                 heads_view(dvalues, wide),
                                 heads_view(gradient, q.dtype()),
                                 statistic_view(statistic, wide),
                                 statistic_view(of.rows(delta, 2), wide)};
    CHECK_CUDA(launch_attention_backward(args, on_device()));
  };
  for (const MaskPiece& piece : pieces(mask, q, k)) {
    if (piece.kind == MaskPiece::Kind::kIntervals || !fused_backward_ || !fused_takes({q, k, v, dout, out})) {
      on(piece);
      continue;
    }
    for (const MaskPiece& block : cut(piece, fused_edge(q.size(0), q.size(2), k.size(2), q.size(3)))) on(block);
  }
}

}  // namespace carillon
