// One block of the transformer, forward and backward; model/README.md gives the same as equations. The layer's
// LayerSpec decides which norms, biases and multipliers there are.
//
// Policy on gradients: parameter gradients accumulate (+=), except that the first pass of a step overwrites those of
// the matrices, which saves clearing and reading them. Activation gradients are overwritten (=), except
// residual_gradient, to which both branches of a block add. Recomputation calls the forward functions. A frozen
// parameter has no gradient, and the ops that would compute it are skipped (norms and biases when there are adapters,
// parallel/tensor/sharded_linear.h).

#include <algorithm>

#include "model/transformer.h"
#include "parallel/tensor/sharded_linear.h"

namespace carillon {

// Views of the fused rows: heads concatenated, query first.
Tensor Transformer::heads_of(Tensor fused, int64_t first_head, int64_t heads) const {
  const int64_t width = config_.head_dim;
  return fused.slice(1, first_head * width, (first_head + heads) * width)
      .split_dim(1, heads)
      .split_dim(0, options_.batch);
}

// ---- norms ---------------------------------------------------------------------------------------------------------

Tensor Transformer::norm_before(const Parameter& norm, Tensor rstd, Tensor x) {
  if (!norm) return x;
  backend_.rmsnorm_forward(work_.normed, rstd, x, norm.weight, config_.rms_norm_eps, norm_options_);
  return work_.normed;
}

void Transformer::norm_before_backward(Parameter& norm, Tensor x, Tensor rstd, Tensor output) {
  if (!norm) {
    backend_.add(work_.residual_gradient, work_.branch_gradient);
    return;
  }
  NormOptions options = backward_options();
  options.output = output;
  backend_.rmsnorm_backward(work_.residual_gradient, norm.gradient, work_.branch_gradient, x, norm.weight, rstd,
                            /*accumulate=*/true, options);
}

// Those of a layer are finished together, at the end of attention_backward.
NormOptions Transformer::backward_options() const {
  NormOptions options = norm_options_;
  options.overwrite_weight = !accumulate_;
  options.deferred = true;
  return options;
}

// sum = x + multiplier · norm(branch_output), where branch_output is the result of attention or the MLP; and normed the
// norm of that which comes next, where there is one.
void Transformer::add_branch(int64_t index, Tensor sum, Tensor x, const Parameter& norm, Tensor rstd,
                             Tensor branch_output, const Parameter& next, Tensor next_rstd) {
  Tensor branch = branch_output;
  if (norm) {
    backend_.rmsnorm_forward(work_.normed, rstd, branch_output, norm.weight, config_.rms_norm_eps, norm_options_);
    branch = work_.normed;
  }
  const double multiplier = spec(index).residual_multiplier;
  if (multiplier != 1) backend_.scale(branch, multiplier);
  if (next)
    backend_.sum_rmsnorm_forward(sum, work_.normed, next_rstd, x, branch, next.weight, config_.rms_norm_eps,
                                 norm_options_);
  else
    backend_.sum(sum, x, branch);
}

// Returns the gradient with respect to `branch_output`, from residual_gradient.
Tensor Transformer::branch_backward(int64_t index, Parameter& norm, Tensor rstd, Tensor branch_output) {
  const double multiplier = spec(index).residual_multiplier;
  Tensor gradient = work_.residual_gradient;
  if (multiplier != 1) {
    const Tensor multiplied = norm ? work_.branch_gradient : work_.output_gradient;
    backend_.copy(multiplied, gradient);
    backend_.scale(multiplied, multiplier);
    gradient = multiplied;
  }
  if (!norm) return gradient;
  backend_.rmsnorm_backward(work_.output_gradient, norm.gradient, gradient, branch_output, norm.weight, rstd,
                            /*accumulate=*/false, backward_options());
  return work_.output_gradient;
}

// Normalises queries and keys from `from` to `to`, both fused rows: per head, or over whole projections. The rows of a
// projection are split over tp, so their statistics are summed.
void Transformer::normalise_heads(int64_t index, Tensor to, Tensor from) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const double epsilon = config_.rms_norm_eps;
  if (spec(index).attention.qk_norm != QkNorm::kProjection) {
    backend_.rmsnorm_forward(query_rows(to), layer.q_rstd, query_rows(from), weights.q_norm.weight, epsilon,
                             norm_options_);
    backend_.rmsnorm_forward(key_rows(to), layer.k_rstd, key_rows(from), weights.k_norm.weight, epsilon, norm_options_);
    return;
  }
  const Tensor q = query_projection(from), k = key_projection(from);
  NormOptions of_queries = norm_options_, of_keys = norm_options_;
  if (shards_.tp > 1) {
    backend_.row_dot(query_sums(), q, q, {}, 0);
    backend_.row_dot(key_sums(), k, k, {}, 0);
    // Of the ranks that hold the same key heads, one contributes its sum.
    if (shards_.tp_rank % shards_.kv_replicas != 0) backend_.fill(key_sums(), 0);
    sum_over_projections(of_queries, of_keys);
  }
  backend_.rmsnorm_forward(query_projection(to), layer.q_rstd.reshape({-1}), q, weights.q_norm.weight, epsilon,
                           of_queries);
  backend_.rmsnorm_forward(key_projection(to), layer.k_rstd.reshape({-1}), k, weights.k_norm.weight, epsilon, of_keys);
}

// The gradients of fused rows by what stood before the norms, in place of those after.
void Transformer::normalise_heads_backward(int64_t index, Tensor gradient, Tensor from) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  if (spec(index).attention.qk_norm != QkNorm::kProjection) {
    backend_.rmsnorm_backward(query_rows(gradient), weights.q_norm.gradient, query_rows(gradient), query_rows(from),
                              weights.q_norm.weight, layer.q_rstd, /*accumulate=*/false, backward_options());
    backend_.rmsnorm_backward(key_rows(gradient), weights.k_norm.gradient, key_rows(gradient), key_rows(from),
                              weights.k_norm.weight, layer.k_rstd, /*accumulate=*/false, backward_options());
    return;
  }
  const Tensor q = query_projection(from), k = key_projection(from);
  const Tensor dq = query_projection(gradient), dk = key_projection(gradient);
  NormOptions of_queries = backward_options(), of_keys = backward_options();
  if (shards_.tp > 1) {
    backend_.row_dot(query_sums(), dq, q, weights.q_norm.weight, norm_options_.weight_offset);
    backend_.row_dot(key_sums(), dk, k, weights.k_norm.weight, norm_options_.weight_offset);
    sum_over_projections(of_queries, of_keys);
    // Of key heads that several ranks hold, each has the gradient of its own queries: a part, whose share of the sum
    // over the row is a part too.
    if (shards_.kv_replicas > 1) backend_.scale(key_sums(), 1.0 / shards_.kv_replicas);
  }
  backend_.rmsnorm_backward(dq, weights.q_norm.gradient, dq, q, weights.q_norm.weight, layer.q_rstd.reshape({-1}),
                            /*accumulate=*/false, of_queries);
  backend_.rmsnorm_backward(dk, weights.k_norm.gradient, dk, k, weights.k_norm.weight, layer.k_rstd.reshape({-1}),
                            /*accumulate=*/false, of_keys);
}

// Turns the sums of this rank's heads into those of all heads.
void Transformer::sum_over_projections(NormOptions& of_queries, NormOptions& of_keys) {
  grid_.tp->all_reduce(work_.row_sums, Reduction::kSum);
  of_queries.sums = query_sums();
  of_queries.columns = config_.num_attention_heads * config_.head_dim;
  of_keys.sums = key_sums();
  of_keys.columns = config_.num_key_value_heads * config_.head_dim;
}

void Transformer::rotate(int64_t index, Tensor fused, bool inverse) {
  if (!spec(index).attention.rotates) return;
  const RotationTable& rotation = rotation_of(index);
  backend_.rotate(query_and_key_rows(fused), batch_.position, rotation.cosine, rotation.sine, inverse);
}

// Adds a layer's contribution to the gradient of a learned rotation, from the rotated rows and their gradient.
void Transformer::add_rotation_gradient(int64_t index, Tensor dqkv, Tensor qkv) {
  if (!rotations_.learns(windowed(index)) || !spec(index).attention.rotates) return;
  backend_.rotation_gradient(rotations_.frequency_gradient(), query_and_key_rows(qkv), query_and_key_rows(dqkv),
                             batch_.position);
}

// ---- forward -------------------------------------------------------------------------------------------------------

void Transformer::norm_input(int64_t index) {
  LayerActivations& layer = activations_.layers[index];
  norm_before(parameters_.layers[index].input_norm, layer.input_rstd, layer.input);
}

// input, whose norm is in normed -> q, k, v -> (q/k norms) -> rotation -> (attention). `attend` is false when the
// policy kept its result.
void Transformer::attention_forward(int64_t index, bool attend) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const AttentionSpec& attention = spec(index).attention;

  RowGather x = gathered(normed(weights.input_norm, layer.input), work_.gathered);
  column_parallel_forward(backend_, layer.qkv_raw, x, weights.qkv, adapter_work());
  if (attention.qk_norm == QkNorm::kPerHeadAfterRotation) rotate(index, layer.qkv_raw, /*inverse=*/false);
  if (attention.qk_norm != QkNorm::kNone) normalise_heads(index, layer.qkv, layer.qkv_raw);
  if (attention.qk_norm != QkNorm::kPerHeadAfterRotation) rotate(index, layer.qkv, /*inverse=*/false);
  if (rotations_.has_query_temperature()) backend_.scale_rows(query_rows(layer.qkv), batch_.query_factor);
  if (!attend) return;
  if (options_.one_token) {
    options_.cache->attend(index, attention_heads(layer.attention), query(layer.qkv), key(layer.qkv),
                           value(layer.qkv_raw), attention.scale, mask_of(index), weights.sinks.weight);
    return;
  }
  if (options_.cache != nullptr) options_.cache->store(index, key(layer.qkv), value(layer.qkv_raw));
  ring_->forward(attention_heads(layer.attention), layer.lse, query(layer.qkv), key(layer.qkv), value(layer.qkv_raw),
                 {attention.scale, mask_of(index), weights.sinks.weight});
  if (probe_)
    probe_(
        AttentionView{index, layer.qkv, layer.lse, shards_.heads, shards_.kv_heads, attention.scale, attention.window});
}

// middle = input + norm(attention · Woᵀ (+ bias)), and its norm
void Transformer::attention_output(int64_t index) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const Tensor branch_output = weights.attention_output_norm ? layer.attention_output : work_.normed;

  RowScatter y = scattered(branch_output);
  row_parallel_forward(backend_, y, layer.attention, weights.output, adapter_work());
  if (weights.o_bias) backend_.add_bias(branch_output, weights.o_bias.weight);
  add_branch(index, layer.middle, layer.input, weights.attention_output_norm, layer.attention_output_rstd,
             branch_output, weights.mlp_norm, layer.middle_rstd);
}

// middle, whose norm is in normed -> gate, up
void Transformer::mlp_input(int64_t index) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  RowGather x = gathered(normed(weights.mlp_norm, layer.middle), work_.gathered);
  column_parallel_forward(backend_, layer.gate_up, x, weights.gate_up, adapter_work());
}

// output = middle + norm((activation(gate) · up) · Wdownᵀ (+ bias)), and the norm that the next layer begins with, or
// the last norm; absent: as far as the input of the norm.
void Transformer::mlp_output(int64_t index, Tensor output) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const Tensor branch_output = weights.mlp_output_norm ? layer.mlp_output : work_.normed;

  backend_.swiglu_forward(work_.swiglu, gate(layer.gate_up), up(layer.gate_up), spec(index).mlp.activation);
  RowScatter y = scattered(branch_output);
  row_parallel_forward(backend_, y, work_.swiglu, weights.down, adapter_work());
  finish_mlp(index, output, branch_output);
}

void Transformer::finish_mlp(int64_t index, Tensor output, Tensor branch_output) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  if (weights.down_bias) backend_.add_bias(branch_output, weights.down_bias.weight);
  if (output) {
    const auto next = static_cast<size_t>(index) + 1;
    const bool last = next == activations_.layers.size();
    add_branch(index, output, layer.middle, weights.mlp_output_norm, layer.mlp_output_rstd, branch_output,
               last ? parameters_.norm : parameters_.layers[next].input_norm,
               last ? activations_.output_rstd : activations_.layers[next].input_rstd);
  } else if (weights.mlp_output_norm) {
    backend_.rmsnorm_forward(work_.normed, layer.mlp_output_rstd, branch_output, weights.mlp_output_norm.weight,
                             config_.rms_norm_eps, norm_options_);
  }
}

// ---- backward ------------------------------------------------------------------------------------------------------

// dx by the input of a column-parallel layer behind a norm, through the norm, and the gradients by the weights. With
// `again` norm(residual) is not in x's memory: on one tensor rank the norm's backward pass gives it, which reads the
// same rows.
void Transformer::column_backward(Tensor dy, RowGather& x, const Linear& linear, Parameter& norm, Tensor residual,
                                  Tensor rstd, bool again) {
  if (again && norm && shards_.tp == 1) {
    linear_input_gradient(backend_, work_.branch_gradient, dy, linear, adapter_work());
    norm_before_backward(norm, residual, rstd, work_.normed);
    linear_weight_gradient(backend_, dy, work_.normed, linear, adapter_work(), accumulate_);
    if (linear.bias_gradient) backend_.bias_backward(linear.bias_gradient, dy);
    return;
  }
  RowScatter dx = scattered(work_.branch_gradient);
  column_parallel_backward(backend_, dx, dy, x, linear, adapter_work(), accumulate_);
  norm_before_backward(norm, residual, rstd);
}

// Needs middle, middle_rstd, gate_up and, with a norm after, mlp_output of this layer; gate_up is overwritten by its
// gradient. Both gathers are on their way before the first product: the one of x, wanted last, is hidden whole. Where
// mlp_input ran just before, x is still there.
void Transformer::mlp_backward(int64_t index) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  const Tensor doutput = branch_backward(index, weights.mlp_output_norm, layer.mlp_output_rstd, layer.mlp_output);
  if (weights.down_bias.gradient) backend_.bias_backward(weights.down_bias.gradient, doutput);
  RowGather dy = gathered(doutput, work_.gathered_gradient);
  const bool there = options_.recompute == Recompute::kSelective ||
                     (options_.recompute == Recompute::kFull && !spec(index).norm_after());
  if (!there && shards_.tp > 1) norm_before(weights.mlp_norm, layer.middle_rstd, layer.middle);
  RowGather x = gathered(normed(weights.mlp_norm, layer.middle), work_.gathered, there);
  linear_input_gradient(backend_, work_.swiglu_gradient, dy, weights.down, adapter_work());
  backend_.swiglu_backward(gate(layer.gate_up), up(layer.gate_up), work_.swiglu, work_.swiglu_gradient,
                           gate(layer.gate_up), up(layer.gate_up), spec(index).mlp.activation);
  linear_weight_gradient(backend_, dy.all(), work_.swiglu, weights.down, adapter_work(), accumulate_);
  column_backward(layer.gate_up, x, weights.gate_up, weights.mlp_norm, layer.middle, layer.middle_rstd, !there);
}

// The MLP tile by tile: its wide activations, 2·F and F columns, exist for one tile of rows at a time. Those of C
// columns exist whole. Their chunks are sent as soon as a tile has completed them and are awaited when a tile needs
// them, wherever tiles begin and end. With tp 1 a tile's result overwrites its own input, which has been read by then,
// unless a norm follows the MLP or none precedes it.
void Transformer::mlp_tiles_forward(int64_t index, Tensor output) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const Tensor branch_output = weights.mlp_output_norm ? layer.mlp_output : work_.normed;

  RowGather x = gathered(normed(weights.mlp_norm, layer.middle), work_.gathered);
  RowScatter y = scattered(branch_output);
  const int64_t rows = row_shards_.rows(), tile = layer.gate_up.size(0);
  for (int64_t begin = 0; begin < rows; begin += tile) {
    const int64_t end = std::min(begin + tile, rows);
    const Tensor gate_up = layer.gate_up.rows(0, end - begin), swiglu = work_.swiglu.rows(0, end - begin);
    column_parallel_forward(backend_, gate_up, x.rows(begin, end), weights.gate_up, adapter_work(begin, end));
    backend_.swiglu_forward(swiglu, gate(gate_up), up(gate_up), spec(index).mlp.activation);
    row_parallel_forward(backend_, y.rows(begin, end), swiglu, weights.down, adapter_work(begin, end));
    y.done(end);
  }
  y.finish();
  finish_mlp(index, output, branch_output);
}

// Needs only middle and, with a norm after, mlp_output of this layer: gate and up are recomputed, one tile at a time.
// The ops on each row are those of mlp_input and mlp_backward; a weight's gradient is summed tile after tile.
void Transformer::mlp_tiles_backward(int64_t index) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  // attention_output has just left the norm; mlp_tiles_forward another, where a norm follows the MLP.
  if (options_.recompute == Recompute::kFull && spec(index).norm_after())
    norm_before(weights.mlp_norm, layer.middle_rstd, layer.middle);
  RowGather x = gathered(normed(weights.mlp_norm, layer.middle), work_.gathered);
  const Tensor doutput = branch_backward(index, weights.mlp_output_norm, layer.mlp_output_rstd, layer.mlp_output);
  if (weights.down_bias.gradient) backend_.bias_backward(weights.down_bias.gradient, doutput);
  RowGather dy = gathered(doutput, work_.gathered_gradient);
  RowScatter dx = scattered(work_.branch_gradient);
  const int64_t rows = row_shards_.rows(), tile = layer.gate_up.size(0);
  for (int64_t begin = 0; begin < rows; begin += tile) {
    const int64_t end = std::min(begin + tile, rows);
    const Tensor gate_up = layer.gate_up.rows(0, end - begin), swiglu = work_.swiglu.rows(0, end - begin);
    const bool add = accumulate_ || begin > 0;
    const Tensor dswiglu = work_.swiglu_gradient.rows(0, end - begin);
    const Tensor x_tile = x.rows(begin, end);
    const LowRankWork adapter = adapter_work(begin, end);
    column_parallel_forward(backend_, gate_up, x_tile, weights.gate_up, adapter);
    const Tensor dy_tile = dy.rows(begin, end);
    linear_input_gradient(backend_, dswiglu, dy_tile, weights.down, adapter);
    backend_.swiglu_backward(gate(gate_up), up(gate_up), swiglu, dswiglu, gate(gate_up), up(gate_up),
                             spec(index).mlp.activation);
    linear_weight_gradient(backend_, dy_tile, swiglu, weights.down, adapter, add);
    linear_input_gradient(backend_, dx.rows(begin, end), gate_up, weights.gate_up, adapter);
    dx.done(end);
    linear_weight_gradient(backend_, gate_up, x_tile, weights.gate_up, adapter, add);
    if (weights.gate_up.bias_gradient) backend_.bias_backward(weights.gate_up.bias_gradient, gate_up);
  }
  dx.finish();
  norm_before_backward(weights.mlp_norm, layer.middle, layer.middle_rstd);
}

// Needs qkv (and qkv_raw, rstd with q/k norms), attention, lse, input and what the norms keep of this layer. Gathers as
// in mlp_backward.
void Transformer::attention_backward(int64_t index) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const AttentionSpec& attention = spec(index).attention;
  const Tensor dqkv = work_.qkv_gradient;

  const Tensor doutput =
      branch_backward(index, weights.attention_output_norm, layer.attention_output_rstd, layer.attention_output);
  if (weights.o_bias.gradient) backend_.bias_backward(weights.o_bias.gradient, doutput);
  RowGather dy = gathered(doutput, work_.gathered_gradient);
  if (shards_.tp > 1) norm_before(weights.input_norm, layer.input_rstd, layer.input);
  RowGather x = gathered(normed(weights.input_norm, layer.input), work_.gathered);
  linear_input_gradient(backend_, work_.attention_gradient, dy, weights.output, adapter_work());
  linear_weight_gradient(backend_, dy.all(), layer.attention, weights.output, adapter_work(), accumulate_);
  // Turned back by the ring, unless something comes between.
  RingAttention::Layer ring_layer{attention.scale, mask_of(index), weights.sinks.weight, weights.sinks.gradient};
  const bool learned = rotations_.learns(windowed(index));
  const bool turned = attention.rotates && attention.qk_norm != QkNorm::kPerHeadAfterRotation && !learned &&
                      !rotations_.has_query_temperature();
  if (turned) {
    const RotationTable& rotation = rotation_of(index);
    ring_layer.position = batch_.position, ring_layer.cosine = rotation.cosine, ring_layer.sine = rotation.sine;
  }
  ring_->backward(query(dqkv), key(dqkv), value(dqkv), attention_heads(work_.attention_gradient), query(layer.qkv),
                  key(layer.qkv), value(layer.qkv_raw), attention_heads(layer.attention), layer.lse, ring_layer);
  // Before the temperature's factor: it is in the queries too, and cancels.
  if (attention.qk_norm != QkNorm::kPerHeadAfterRotation) add_rotation_gradient(index, dqkv, layer.qkv);
  if (rotations_.has_query_temperature()) backend_.scale_rows(query_rows(dqkv), batch_.query_factor);
  if (attention.qk_norm != QkNorm::kPerHeadAfterRotation && !turned) rotate(index, dqkv, /*inverse=*/true);
  if (attention.qk_norm != QkNorm::kNone) normalise_heads_backward(index, dqkv, layer.qkv_raw);
  if (attention.qk_norm == QkNorm::kPerHeadAfterRotation) {
    add_rotation_gradient(index, dqkv, layer.qkv_raw);
    rotate(index, dqkv, /*inverse=*/true);
  }

  column_backward(dqkv, x, weights.qkv, weights.input_norm, layer.input, layer.input_rstd, /*again=*/true);
  backend_.finish_norms();
}

}  // namespace carillon
