// CudaBackend's attention: checks the tensors and launches the kernels of attention_*.cu.
#include "runtime/attention_ends.h"
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
class PieceView {
 public:
  explicit PieceView(const MaskPiece& piece) : piece_(piece) {}
  Tensor rows(const Tensor& x, int dim) const { return x.slice(dim, piece_.row, piece_.row + piece_.rows); }
  Tensor keys(const Tensor& x, int dim = 1) const { return x.slice(dim, piece_.key, piece_.key + piece_.keys); }
  AttentionMask mask(const AttentionMask& mask) const {
    return {rows(mask.query_index, 0), rows(mask.first, 1), keys(mask.key_index, 0), mask.shape};
  }

 private:
  const MaskPiece& piece_;
};

AttentionTurn turn_of(const AttentionGradientEnds& ends, const Tensor& q) {
  if (!ends.position) return {};
  const DType wide = accumulate_type(q.dtype());
  const int64_t pairs = ends.cosine.size(1);
  CHECK(2 * pairs <= q.size(3) && ends.position.count() == q.size(0) * q.size(1) &&
            ends.sine.shape() == ends.cosine.shape(),
        "rotation shapes", describe(q), describe(ends.cosine));
  return {indices(ends.position), packed(ends.cosine, wide), packed(ends.sine, wide), ends.cosine.size(0),
          static_cast<int>(pairs)};
}

bool whole(const MaskPiece& piece, const Tensor& q, const Tensor& k) {
  return piece.row == 0 && piece.key == 0 && piece.rows == q.size(1) && piece.keys == k.size(1);
}

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

// One piece is one launch with both ends; of several the ends have launches of their own.
void CudaBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v,
                                    const AttentionMask& mask, double scale, const AttentionEnds& ends) {
  const DType wide = accumulate_type(q.dtype());
  CHECK(state.accumulator.shape() == q.shape() && (!ends.out || ends.out.shape() == q.shape()), "attention shapes",
        carillon::describe(state.accumulator), carillon::describe(q));
  rows_of(q, state.maximum), rows_of(q, state.sum);
  const std::vector<MaskPiece> all = pieces(mask, q, k);
  const bool alone = all.size() == 1 && whole(all[0], q, k) && !q.empty() && !k.empty();
  if (alone && fused_whole_forward(q, k, v, mask, all[0].kind, scale, ends)) return;
  const bool joined = alone && all[0].kind == MaskPiece::Kind::kIntervals;
  if (ends.first && !joined) attention_begin(state, ends.sinks);
  for (const MaskPiece& piece : all) {
    const PieceView view(piece);
    const AttentionState part{view.rows(state.accumulator, 1), view.rows(state.maximum, 2), view.rows(state.sum, 2)};
    const Tensor queries = view.rows(q, 1), keys = view.keys(k), values = view.keys(v);
    if (fused_forward(part, queries, keys, values, view.mask(mask), piece.kind, scale)) continue;
    AttentionForward args{problem_of(queries, keys, values, view.mask(mask), scale), heads_view(part.accumulator, wide),
                          statistic_view(part.maximum, wide), statistic_view(part.sum, wide)};
    if (joined) {
      args.first = ends.first;
      if (ends.sinks) {
        CHECK(ends.sinks.count() == q.size(2), "one sink per head", carillon::describe(ends.sinks),
              carillon::describe(q));
        args.sinks = packed(ends.sinks, q.dtype());
      }
      if (ends.out) args.out = heads_view(ends.out, q.dtype()), args.lse = statistic_view(ends.lse, wide);
    }
    CHECK_CUDA(launch_attention_forward(args, on_device()));
  }
  if (ends.out && !joined) attention_finish(ends.out, ends.lse, state);
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

// One piece is two launches with both ends; of several the ends have launches of their own.
void CudaBackend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                     Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                                     const AttentionGradientEnds& ends) {
  const DType wide = accumulate_type(q.dtype());
  CHECK(dq.shape() == q.shape() && dout.shape() == q.shape() && out.shape() == q.shape() && dk.shape() == k.shape() &&
            dv.shape() == v.shape(),
        "attention shapes", carillon::describe(dq), carillon::describe(dk), carillon::describe(dv));
  CHECK(!ends.result_dq || (ends.first && ends.first_keys && ends.result_dq.shape() == q.shape() &&
                            ends.result_dk.shape() == k.shape() && ends.result_dv.shape() == v.shape()),
        "results are of the only block", carillon::describe(ends.result_dq), carillon::describe(q));
  rows_of(q, lse), rows_of(q, delta);
  std::vector<MaskPiece> all;
  for (const MaskPiece& piece : pieces(mask, q, k)) {
    const bool cuts = piece.kind != MaskPiece::Kind::kIntervals && fused_backward_ && fused_takes({q, k, v, dout, out});
    const auto blocks = cuts ? cut(piece, fused_edge(q.size(0), q.size(2), k.size(2), q.size(3))) : std::vector{piece};
    all.insert(all.end(), blocks.begin(), blocks.end());
  }
  const bool alone = all.size() == 1 && whole(all[0], q, k) && !q.empty() && !k.empty();
  const bool engine = fused_backward_ && all.size() == 1 && all[0].kind != MaskPiece::Kind::kIntervals &&
                      fused_takes({q, k, v, dout, out});
  if (alone && engine && ends.result_dq) {
    if (ends.delta_wanted) attention_delta(delta, dout, out);
    if (fused_backward(ends.result_dq, ends.result_dk, ends.result_dv, q, k, v, dout, out, lse, mask, all[0].kind,
                       scale, turn_of(ends, q)))
      return;
  }
  const bool joined = alone && !engine;
  if (!joined) begin_attention_gradients(*this, dq, dk, dv, dout, out, delta, ends);
  for (const MaskPiece& piece : all) {
    const PieceView view(piece);
    const Tensor queries = view.rows(q, 1), keys = view.keys(k), values = view.keys(v), gradient = view.rows(dout, 1),
                 statistic = view.rows(lse, 2), dqueries = view.rows(dq, 1), dkeys = view.keys(dk),
                 dvalues = view.keys(dv);
    if (fused_backward(dqueries, dkeys, dvalues, queries, keys, values, gradient, view.rows(out, 1), statistic,
                       view.mask(mask), piece.kind, scale))
      continue;
    AttentionBackward args{problem_of(queries, keys, values, view.mask(mask), scale),
                           heads_view(dqueries, wide),
                           heads_view(dkeys, wide),
                           heads_view(dvalues, wide),
                           heads_view(gradient, q.dtype()),
                           statistic_view(statistic, wide),
                           statistic_view(view.rows(delta, 2), wide)};
    if (joined) {
      args.first = ends.first, args.first_keys = ends.first_keys;
      if (ends.first) args.out = heads_view(out, q.dtype());
      if (ends.result_dq) {
        args.result_dq = heads_view(ends.result_dq, q.dtype()), args.result_dk = heads_view(ends.result_dk, q.dtype());
        args.result_dv = heads_view(ends.result_dv, q.dtype());
        args.turn = turn_of(ends, q);
      }
    }
    CHECK_CUDA(launch_attention_backward(args, on_device()));
  }
  if (!joined) end_attention_gradients(*this, dq, dk, dv, ends);
}

}  // namespace carillon
