// What each op costs in the CUDA backend: the kernels it launches with the scratch memory they need, and the bytes it
// reads and writes. An op that is added to the list gets a case in both functions.
#include <utility>
#include <vector>

#include "launch/plan/counted_sizes.h"
#include "launch/plan/counting_backend.h"
#include "runtime/cuda/attention/fused_sizes.h"
#include "runtime/cuda/staged_sizes.h"
#include "runtime/joined_heads.h"

namespace carillon {
namespace {

// Sums of runs of rows, stored until they are added up.
int64_t row_sums(int64_t rows, int64_t channels, DType type) {
  return cuda::row_runs(rows) * channels * static_cast<int64_t>(size_of(accumulate_type(type)));
}

// Returns the share of an attention call's rows that may see keys of this block.
double rows_that_see(const OpCall& call, const Tensor& q) {
  if (call.mask.kind != MaskShape::Kind::kFull || q.size(1) == 0) return 1;
  return 1 - static_cast<double>(call.mask.begin) / static_cast<double>(q.size(1));
}

}  // namespace

int64_t CountingBackend::kernels(OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  const auto one_over = [](const Tensor& tensor) { return tensor.empty() ? 0 : 1; };
  switch (call.op) {
    case OpKind::fill:
    case OpKind::copy:
    case OpKind::add:
    case OpKind::sum:
    case OpKind::scale:
    case OpKind::scale_rows:
    case OpKind::dropout:
    case OpKind::dequantize:
    case OpKind::soft_cap:
    case OpKind::add_bias:
    case OpKind::embedding_forward:
    case OpKind::rmsnorm_forward:
    case OpKind::sum_rmsnorm_forward:
    case OpKind::swiglu_forward:
    case OpKind::attention_finish:
    case OpKind::cross_entropy_maximum:
    case OpKind::cross_entropy_finish:
      return one_over(x[0]);
    case OpKind::swiglu_backward:  // dgate, dup, y, dy, gate, up
      return one_over(x[3]);
    case OpKind::attention_begin:  // accumulator, maximum, sum, sinks; with sinks the accumulator is cleared
      return x[3] ? one_over(x[0]) + one_over(x[1]) : one_over(x[1]);
    case OpKind::row_dot:                   // sums, a, b, weight
    case OpKind::attention_sinks_backward:  // dsinks, sinks, lse, delta
    case OpKind::attention_delta:           // delta, dout, out
      return one_over(x[1]);
    case OpKind::cross_entropy_sums:  // sums, logits, maximum, target
      return one_over(x[2]);
    case OpKind::rotate:  // x, position, cosine, sine
      return x[2].size(1) > 0 ? one_over(x[0]) : 0;
    case OpKind::rotation_gradient:  // rates, x, dx, position: sums of runs of rows, then of those
      if (x[0].empty() || x[1].empty()) return 0;
      scratch(cuda::rotation_gradient_bytes(x[1].size(0), x[0].count()));
      return 2;

    case OpKind::sum_of_squares: {  // sums of blocks, then of those
      int64_t present = 0, bytes = 0;
      for (const Tensor& tensor : x) {
        if (tensor.empty()) continue;
        ++present;
        bytes += 8 * (cuda::sum_of_squares_partials(tensor.count()) + 1);
      }
      if (present == 0) return 0;
      scratch(bytes);
      counts_.to_host_bytes += 8 * present;
      wait();
      call.result = 1;
      return cuda::sum_of_squares_launches(present);
    }
    case OpKind::matmul: {  // c, a, b
      const bool nothing_to_sum = x[1].size(call.transposes[0] == Transpose::kYes ? 0 : 1) == 0;
      if (!x[0].empty() && !nothing_to_sum) ++counts_.products;
      return nothing_to_sum && !call.flag ? one_over(x[0]) : 0;
    }
    // Sums of runs of rows, then of those; rmsnorm_backward's dweight too, now or with those of other norms.
    case OpKind::bias_backward:  // dbias, dy
      scratch(row_sums(x[1].size(0), x[1].size(1), x[1].dtype()));
      return 2 * one_over(x[1]);
    case OpKind::rmsnorm_backward: {  // dx, dweight, dy, x, weight, rstd
      if (x[0].empty()) return 0;
      const int64_t channels = x[4].count();
      const bool open = x[1] && call.deferred;
      if (!open) scratch(row_sums(x[0].count() / channels, channels, x[3].dtype()));
      open_norms_ += open ? 1 : 0;
      return x[1] && !open ? 2 : 1;
    }
    case OpKind::finish_norms:
      return cuda::parts(std::exchange(open_norms_, 0), cuda::kRunsAtOnce);
    case OpKind::embedding_backward:  // dtable, ids, dy: keys, the kernels of a bitonic sort, and the sums
      scratch(cuda::embedding_bytes(x[2].size(0), x[2].size(1), static_cast<int64_t>(size_of(x[0].dtype()))));
      return x[2].empty() ? 0 : cuda::embedding_launches(x[2].size(0));

    case OpKind::attention_forward:
      return forward_kernels(call);
    case OpKind::attention_backward:
      return backward_kernels(call);
    case OpKind::adamw: {  // of each parameter: weight, master, exp_avg, exp_avg_sq, gradient
      int64_t present = 0;
      for (size_t master = 1; master < x.size(); master += 5) present += one_over(x[master]);
      return cuda::adamw_launches(present);
    }
  }
  throw InternalError("an op without a count");
}

// As runtime/cuda/attention/attention.cpp goes about it.
bool CountingBackend::alone(const OpCall& call, const std::vector<MaskPiece>& pieces) {
  const Tensor &q = call.operands[3], &k = call.operands[4];
  return pieces.size() == 1 && pieces[0].row == 0 && pieces[0].key == 0 && pieces[0].rows == q.size(1) &&
         pieces[0].keys == k.size(1) && !q.empty() && !k.empty();
}

bool CountingBackend::joins_ends(const OpCall& call, const std::vector<MaskPiece>& pieces) const {
  if (!alone(call, pieces)) return false;
  if (!is_whole(pieces[0])) return true;
  const std::vector<Tensor>& x = call.operands;
  if (call.op == OpKind::attention_backward) return static_cast<bool>(x[13]);
  return call.first && !x[9] && x[10] && !call.mask.empty_rows;
}

// The state's three, q, k, v, the mask's three, sinks, out, lse.
int64_t CountingBackend::forward_kernels(const OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  const std::vector<MaskPiece> all = pieces(call);
  if (joins_ends(call, all)) return 1;
  int64_t launched = call.first ? 1 + (x[9] ? 1 : 0) : 0;
  for (const MaskPiece& piece : all) {
    const Tensor seeing = x[3].slice(1, piece.row, piece.row + piece.rows);
    // cuDNN's kernel counts as one, and one merges what it gives.
    launched += seeing.empty() ? 0 : is_whole(piece) ? 2 : 1;
    if (is_whole(piece))
      scratch(cuda::fused_forward_bytes(seeing.size(0), seeing.size(1), seeing.size(2), seeing.size(3)));
  }
  return launched + (x[10] && !x[10].empty() ? 1 : 0);
}

// dq, dk, dv, q, k, v, dout, out, lse, delta, the mask's three, the results' three, position, cosine, sine.
int64_t CountingBackend::backward_kernels(const OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  const std::vector<MaskPiece> all = blocks(call);
  const bool joined = joins_ends(call, all), engine = joined && is_whole(all[0]);
  int64_t launched = 0;
  for (const MaskPiece& piece : all) {  // by queries, then by keys
    const Tensor seeing = x[3].slice(1, piece.row, piece.row + piece.rows);
    // cuDNN's and what adds up its gradients; before it the rows' log-sum-exp, unless it is at hand as it is.
    const Tensor lse = x[8].slice(2, piece.row, piece.row + piece.rows);
    const bool prepared = is_whole(piece) && (!lse.packed() || call.mask.empty_rows);
    launched += seeing.empty() ? 0 : prepared ? 3 : 2;
    if (is_whole(piece))
      scratch(cuda::fused_backward_bytes(seeing.size(0), piece.rows, piece.keys, seeing.size(2), x[4].size(2),
                                         seeing.size(3)));
  }
  if (joined) return launched + (engine && call.delta_wanted ? 1 : 0);
  launched += call.first ? 1 : 0;
  for (const Tensor& cleared : cleared_gradients(x[0], x[1], x[2], call.first, call.first_keys))
    launched += cleared.empty() ? 0 : 1;
  if (!x[13]) return launched;
  return launched + (x[16] ? 1 : 0) + (joined_heads({x[0], x[1], x[2]}) && joined_heads({x[13], x[14], x[15]}) ? 1 : 3);
}

double CountingBackend::moved_bytes(const OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  switch (call.op) {
    case OpKind::fill:
      return bytes_of(x[0]);
    case OpKind::copy:
    case OpKind::sum:
    case OpKind::rmsnorm_forward:
    case OpKind::sum_rmsnorm_forward:
    case OpKind::swiglu_forward:
    case OpKind::swiglu_backward:  // six of one size, be they in the same place
    case OpKind::attention_delta:
    case OpKind::cross_entropy_maximum: {
      double sum = 0;
      for (const Tensor& tensor : x) sum += bytes_of(tensor);
      return sum;
    }
    case OpKind::add:
      return 2 * bytes_of(x[0]) + bytes_of(x[1]);
    case OpKind::scale:
    case OpKind::scale_rows:
    case OpKind::soft_cap:
    case OpKind::rotate:
    case OpKind::add_bias:
      return 2 * bytes_of(x[0]);
    case OpKind::row_dot:
    case OpKind::attention_sinks_backward:
    case OpKind::sum_of_squares: {
      double sum = 0;
      for (const Tensor& tensor : x) sum += bytes_of(tensor);
      return sum;
    }
    // A product's measured rate includes what it reads and writes, except the weight gradient that it adds to.
    case OpKind::matmul:
      return call.transposes[0] == Transpose::kYes ? (call.flag ? 2 : 1) * bytes_of(x[0]) : 0;
    case OpKind::bias_backward:
      return bytes_of(x[1]);
    case OpKind::rotation_gradient:  // rates, x, dx
      return bytes_of({x[1], x[2]});
    case OpKind::embedding_forward:  // as many rows of the table as there are ids
      return 2 * bytes_of(x[0]);
    case OpKind::embedding_backward:  // rows of dtable, read and written
      return bytes_of(x[2]) + 2 * static_cast<double>(x[2].count()) * static_cast<double>(size_of(x[0].dtype()));
    case OpKind::dequantize:  // y, codes, scales
      return bytes_of({x[0], x[1], x[2]});
    case OpKind::dropout:  // y, x
      return (call.flag ? 2 : 1) * bytes_of(x[0]) + bytes_of(x[1]);
    case OpKind::rmsnorm_backward:                                                 // dx, dweight, dy, x
      return (call.flag ? 2 : 1) * bytes_of(x[0]) + bytes_of({x[2], x[3], x[7]});  // x[7]: y again
    case OpKind::finish_norms:                                                     // a part of what the norms read
      return 0;

    // Attention's own rate holds for a block of keys by itself. What several blocks cost beside that: the running state
    // written, then read and written for each further block; likewise dq.
    case OpKind::attention_begin:
      return bytes_of({x[1], x[2]}) + (x[3] ? bytes_of(x[0]) : 0);
    case OpKind::attention_forward: {
      const double state = bytes_of(x[0]) * rows_that_see(call, x[3]);
      if (joins_ends(call, pieces(call))) return (call.first ? 0 : state) + (x[10] ? 0 : state);
      return (attention_begun_ || call.first ? 1 : 2) * state +
             (call.first ? bytes_of({x[1], x[2]}) + (x[9] ? bytes_of(x[0]) : 0) : 0) +
             (x[10] ? bytes_of({x[10], x[0]}) : 0);
    }
    case OpKind::attention_finish:  // out, lse, accumulator
      return bytes_of({x[0], x[2]});
    case OpKind::attention_backward: {
      const double shared = x[4].size(1) == x[3].size(1) ? 0 : 2 * bytes_of(x[0]) * rows_that_see(call, x[3]);
      const std::vector<MaskPiece> all = blocks(call);
      const double turned = x[13] && x[16] ? 2 * bytes_of({x[13], x[14]}) : 0;
      if (joins_ends(call, all)) return shared;
      return shared + turned + (call.first ? bytes_of({x[6], x[7]}) + bytes_of(x[0]) : 0) +
             (call.first_keys ? bytes_of({x[1], x[2]}) : 0) +
             (x[13] ? bytes_of({x[0], x[1], x[2], x[13], x[14], x[15]}) : 0);
    }

    case OpKind::cross_entropy_sums:  // sums, logits
      return bytes_of(x[1]);
    case OpKind::cross_entropy_finish:  // loss, gradient, logits
      return bytes_of({x[1], x[2]});
    case OpKind::adamw: {
      double sum = 0;
      for (size_t i = 0; i + 4 < x.size(); i += 5) {
        const bool own_master = x[i].raw() != x[i + 1].raw();
        sum += (own_master ? bytes_of(x[i]) : 0) + 2 * bytes_of({x[i + 1], x[i + 2], x[i + 3]}) + bytes_of(x[i + 4]);
      }
      return sum;
    }
  }
  throw InternalError("an op without a count");
}

}  // namespace carillon
