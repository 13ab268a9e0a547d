#include "runtime/forwarding_backend.h"

#include <array>
#include <tuple>
#include <type_traits>

namespace carillon {

const char* name_of(OpKind op) {
#define CARILLON_OP_NAME(op) #op,
  static constexpr std::array kNames{CARILLON_OPS(CARILLON_OP_NAME)};
#undef CARILLON_OP_NAME
  return kNames[static_cast<size_t>(op)];
}

namespace {

// ---- from an op's arguments to an OpCall ---------------------------------------------------------------------------
void note(OpCall& call, const Tensor& x) { call.operands.push_back(x); }
void note(OpCall& call, const AttentionState& state) {
  call.operands.insert(call.operands.end(), {state.accumulator, state.maximum, state.sum});
}
void note(OpCall& call, const AttentionMask& mask) {
  call.mask_at = call.operands.size();
  call.operands.insert(call.operands.end(), {mask.query_index, mask.first, mask.key_index});
  call.mask = mask.shape;
}
void note(OpCall& call, const std::span<const Tensor>& tensors) {
  call.operands.insert(call.operands.end(), tensors.begin(), tensors.end());
}
void note(OpCall& call, const std::span<const AdamWTensors>& tensors) {
  for (const AdamWTensors& x : tensors)
    call.operands.insert(call.operands.end(), {x.weight, x.master, x.exp_avg, x.exp_avg_sq, x.gradient});
}
void note(OpCall& call, const QuantizedMatrix& x) {
  call.operands.insert(call.operands.end(), {x.codes, x.scales, x.table});
}
void note(OpCall& call, const AttentionEnds& ends) {
  call.operands.insert(call.operands.end(), {ends.sinks, ends.out, ends.lse});
  call.first = ends.first;
}
void note(OpCall& call, const AttentionGradientEnds& ends) {
  call.operands.insert(call.operands.end(),
                       {ends.result_dq, ends.result_dk, ends.result_dv, ends.position, ends.cosine, ends.sine});
  call.first = ends.first, call.first_keys = ends.first_keys, call.delta_wanted = ends.delta_wanted;
}
void note(OpCall& call, const NormOptions& options) {
  call.operands.insert(call.operands.end(), {options.sums, options.output});
  call.deferred = options.deferred;
}
void note(OpCall& call, const bool& flag) { call.flag = flag; }
void note(OpCall& call, const Transpose& transpose) { call.transposes.push_back(transpose); }
void note(OpCall&, const AdamWStep&) {}
void note(OpCall&, const Dropout&) {}
template <class Scalar>
requires(std::is_arithmetic_v<Scalar> || std::is_enum_v<Scalar>) void note(OpCall&, const Scalar&) {}

// ---- and back: the same arguments with the tensors of the OpCall ---------------------------------------------------
struct Cursor {
  const std::vector<Tensor>& operands;
  size_t at = 0;
  const Tensor& next() { return operands[at++]; }

  Tensor take(const Tensor&) { return next(); }
  AttentionState take(const AttentionState& given) {
    AttentionState state = given;
    for (Tensor* x : {&state.accumulator, &state.maximum, &state.sum}) *x = next();
    return state;
  }
  AttentionMask take(const AttentionMask& given) {
    AttentionMask mask = given;
    for (Tensor* x : {&mask.query_index, &mask.first, &mask.key_index}) *x = next();
    return mask;
  }
  AttentionEnds take(const AttentionEnds& given) {
    AttentionEnds ends = given;
    for (Tensor* x : {&ends.sinks, &ends.out, &ends.lse}) *x = next();
    return ends;
  }
  AttentionGradientEnds take(const AttentionGradientEnds& given) {
    AttentionGradientEnds ends = given;
    for (Tensor* x : {&ends.result_dq, &ends.result_dk, &ends.result_dv, &ends.position, &ends.cosine, &ends.sine})
      *x = next();
    return ends;
  }
  NormOptions take(const NormOptions& given) {
    NormOptions options = given;
    for (Tensor* x : {&options.sums, &options.output}) *x = next();
    return options;
  }
  QuantizedMatrix take(const QuantizedMatrix& given) {
    QuantizedMatrix matrix = given;
    for (Tensor* x : {&matrix.codes, &matrix.scales, &matrix.table}) *x = next();
    return matrix;
  }
  std::span<const Tensor> take(const std::span<const Tensor>& given) {
    at += given.size();
    return std::span(operands).subspan(at - given.size(), given.size());
  }
  std::vector<AdamWTensors> take(const std::span<const AdamWTensors>& given) {
    std::vector<AdamWTensors> tensors(given.begin(), given.end());
    for (AdamWTensors& t : tensors)
      for (Tensor* x : {&t.weight, &t.master, &t.exp_avg, &t.exp_avg_sq, &t.gradient}) *x = next();
    return tensors;
  }
  template <class Other>
  Other take(const Other& given) {
    return given;
  }
};

}  // namespace

template <auto op, class... Arguments>
double ForwardingBackend::pass(OpKind kind, const Arguments&... arguments) {
  OpCall call{.op = kind};
  call.operands.reserve(19);
  (note(call, arguments), ...);
  around(call, [&] {
    [[maybe_unused]] Cursor cursor{call.operands};
    // Braces: from left to right.
    const auto taken = std::tuple{cursor.take(arguments)...};
    const auto invoke = [&](const auto&... given) {
      if constexpr (std::is_void_v<decltype((inner_.get()->*op)(given...))>)
        (inner_.get()->*op)(given...);
      else
        call.result = (inner_.get()->*op)(given...);
    };
    std::apply(invoke, taken);
  });
  return call.result;
}

// ---- the ops, one line each ----------------------------------------------------------------------------------------
void ForwardingBackend::fill(Tensor x, double value) { pass<&Backend::fill>(OpKind::fill, x, value); }
void ForwardingBackend::copy(Tensor y, Tensor x) { pass<&Backend::copy>(OpKind::copy, y, x); }
void ForwardingBackend::add(Tensor y, Tensor x) { pass<&Backend::add>(OpKind::add, y, x); }
void ForwardingBackend::sum(Tensor y, Tensor a, Tensor b) { pass<&Backend::sum>(OpKind::sum, y, a, b); }
void ForwardingBackend::scale(Tensor x, double factor) { pass<&Backend::scale>(OpKind::scale, x, factor); }
void ForwardingBackend::scale_rows(Tensor x, Tensor factor) {
  pass<&Backend::scale_rows>(OpKind::scale_rows, x, factor);
}
void ForwardingBackend::dropout(Tensor y, Tensor x, Tensor row, const Dropout& dropout, bool accumulate) {
  pass<&Backend::dropout>(OpKind::dropout, y, x, row, dropout, accumulate);
}
void ForwardingBackend::dequantize(Tensor y, const QuantizedMatrix& x) {
  pass<&Backend::dequantize>(OpKind::dequantize, y, x);
}
void ForwardingBackend::row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) {
  pass<&Backend::row_dot>(OpKind::row_dot, sums, a, b, weight, weight_offset);
}
void ForwardingBackend::soft_cap(Tensor x, double cap) { pass<&Backend::soft_cap>(OpKind::soft_cap, x, cap); }
double ForwardingBackend::sum_of_squares(std::span<const Tensor> tensors) {
  return pass<&Backend::sum_of_squares>(OpKind::sum_of_squares, tensors);
}
void ForwardingBackend::matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b,
                               bool accumulate) {
  pass<&Backend::matmul>(OpKind::matmul, c, a, b, transpose_a, transpose_b, accumulate);
}
void ForwardingBackend::add_bias(Tensor y, Tensor bias) { pass<&Backend::add_bias>(OpKind::add_bias, y, bias); }
void ForwardingBackend::bias_backward(Tensor dbias, Tensor dy) {
  pass<&Backend::bias_backward>(OpKind::bias_backward, dbias, dy);
}
void ForwardingBackend::embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) {
  pass<&Backend::embedding_forward>(OpKind::embedding_forward, y, ids, table, first_row);
}
void ForwardingBackend::embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) {
  pass<&Backend::embedding_backward>(OpKind::embedding_backward, dtable, ids, dy, first_row);
}
void ForwardingBackend::rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon,
                                        const NormOptions& options) {
  pass<&Backend::rmsnorm_forward>(OpKind::rmsnorm_forward, y, rstd, x, weight, epsilon, options);
}
void ForwardingBackend::sum_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor branch, Tensor weight,
                                            double epsilon, const NormOptions& options) {
  pass<&Backend::sum_rmsnorm_forward>(OpKind::sum_rmsnorm_forward, sum, y, rstd, x, branch, weight, epsilon, options);
}
void ForwardingBackend::finish_norms() { pass<&Backend::finish_norms>(OpKind::finish_norms); }
void ForwardingBackend::rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                                         bool accumulate, const NormOptions& options) {
  pass<&Backend::rmsnorm_backward>(OpKind::rmsnorm_backward, dx, dweight, dy, x, weight, rstd, accumulate, options);
}
void ForwardingBackend::rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) {
  pass<&Backend::rotate>(OpKind::rotate, x, position, cosine, sine, inverse);
}
void ForwardingBackend::rotation_gradient(Tensor rates, Tensor x, Tensor dx, Tensor position) {
  pass<&Backend::rotation_gradient>(OpKind::rotation_gradient, rates, x, dx, position);
}
void ForwardingBackend::swiglu_forward(Tensor y, Tensor gate, Tensor up, GateActivation activation) {
  pass<&Backend::swiglu_forward>(OpKind::swiglu_forward, y, gate, up, activation);
}
void ForwardingBackend::swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up,
                                        GateActivation activation) {
  pass<&Backend::swiglu_backward>(OpKind::swiglu_backward, dgate, dup, y, dy, gate, up, activation);
}
void ForwardingBackend::attention_begin(const AttentionState& state, Tensor sinks) {
  pass<&Backend::attention_begin>(OpKind::attention_begin, state, sinks);
}
void ForwardingBackend::attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v,
                                          const AttentionMask& mask, double scale, const AttentionEnds& ends) {
  pass<&Backend::attention_forward>(OpKind::attention_forward, state, q, k, v, mask, scale, ends);
}
void ForwardingBackend::attention_finish(Tensor out, Tensor lse, const AttentionState& state) {
  pass<&Backend::attention_finish>(OpKind::attention_finish, out, lse, state);
}
void ForwardingBackend::attention_delta(Tensor delta, Tensor dout, Tensor out) {
  pass<&Backend::attention_delta>(OpKind::attention_delta, delta, dout, out);
}
void ForwardingBackend::attention_sinks_backward(Tensor dsinks, Tensor sinks, Tensor lse, Tensor delta) {
  pass<&Backend::attention_sinks_backward>(OpKind::attention_sinks_backward, dsinks, sinks, lse, delta);
}
void ForwardingBackend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                           Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask,
                                           double scale, const AttentionGradientEnds& ends) {
  pass<&Backend::attention_backward>(OpKind::attention_backward, dq, dk, dv, q, k, v, dout, out, lse, delta, mask,
                                     scale, ends);
}
void ForwardingBackend::cross_entropy_maximum(Tensor maximum, Tensor logits) {
  pass<&Backend::cross_entropy_maximum>(OpKind::cross_entropy_maximum, maximum, logits);
}
void ForwardingBackend::cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target,
                                           int64_t first_column) {
  pass<&Backend::cross_entropy_sums>(OpKind::cross_entropy_sums, sums, logits, maximum, target, first_column);
}
void ForwardingBackend::cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums,
                                             Tensor target, Tensor weight, int64_t first_column, double cap) {
  pass<&Backend::cross_entropy_finish>(OpKind::cross_entropy_finish, loss, gradient, logits, maximum, sums, target,
                                       weight, first_column, cap);
}
void ForwardingBackend::adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) {
  pass<&Backend::adamw>(OpKind::adamw, tensors, step);
}

}  // namespace carillon
