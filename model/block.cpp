// One block of the transformer, forward and backward; model/README.md shows the same as equations.
//
// Policy on gradients: parameter gradients accumulate (+=), but a step's first pass overwrites those of the matrices,
// which saves clearing and reading them; activation gradients are overwritten (=), except residual_gradient, which both
// branches of a block add to. Forward functions are also what recomputation calls.

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

// input -> norm -> q, k, v -> (q/k norms) -> rotation -> (attention). `attend` is false when the policy kept its
// result.
void Transformer::attention_forward(int64_t index, bool attend) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  backend_.rmsnorm_forward(work_.normed, layer.input_rstd, layer.input, weights.input_norm.weight,
                           config_.rms_norm_eps);
  RowGather x = gathered(work_.normed, work_.gathered);
  column_parallel_forward(backend_, layer.qkv_raw, x, weights.qkv_weight, weights.qkv_bias);
  if (config_.qk_norm) {
    backend_.rmsnorm_forward(query_rows(layer.qkv), layer.q_rstd, query_rows(layer.qkv_raw), weights.q_norm.weight,
                             config_.rms_norm_eps);
    backend_.rmsnorm_forward(key_rows(layer.qkv), layer.k_rstd, key_rows(layer.qkv_raw), weights.k_norm.weight,
                             config_.rms_norm_eps);
    backend_.copy(value(layer.qkv), value(layer.qkv_raw));
  }
  backend_.rotate(query_and_key_rows(layer.qkv), batch_.position, cosine_, sine_, /*inverse=*/false);
  if (!attend) return;
  if (options_.one_token) {
    options_.cache->attend(index, attention_heads(layer.attention), query(layer.qkv), key(layer.qkv), value(layer.qkv),
                           scale_);
    return;
  }
  if (options_.cache != nullptr) options_.cache->store(index, key(layer.qkv), value(layer.qkv));
  ring_->forward(attention_heads(layer.attention), layer.lse, query(layer.qkv), key(layer.qkv), value(layer.qkv),
                 scale_);
}

// middle = input + attention · Woᵀ (+ bias)
void Transformer::attention_output(int64_t index) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  RowScatter y = scattered(work_.normed);
  row_parallel_forward(backend_, y, layer.attention, weights.o_weight.weight);
  if (weights.o_bias) backend_.add_bias(work_.normed, weights.o_bias.weight);
  backend_.sum(layer.middle, layer.input, work_.normed);
}

// middle -> norm -> gate, up
void Transformer::mlp_input(int64_t index) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  backend_.rmsnorm_forward(work_.normed, layer.middle_rstd, layer.middle, weights.post_attention_norm.weight,
                           config_.rms_norm_eps);
  RowGather x = gathered(work_.normed, work_.gathered);
  column_parallel_forward(backend_, layer.gate_up, x, weights.gate_up_weight, weights.gate_up_bias);
}

// output = middle + (silu(gate) · up) · Wdownᵀ (+ bias)
void Transformer::mlp_output(int64_t index, Tensor output) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  backend_.swiglu_forward(work_.swiglu, gate(layer.gate_up), up(layer.gate_up));
  RowScatter y = scattered(work_.normed);
  row_parallel_forward(backend_, y, work_.swiglu, weights.down_weight.weight);
  if (weights.down_bias) backend_.add_bias(work_.normed, weights.down_bias.weight);
  backend_.sum(output, layer.middle, work_.normed);
}

// Needs middle, middle_rstd and gate_up of this layer; gate_up is overwritten by its gradient. Both gathers are on
// their way before the first product: the one of x, wanted last, is hidden whole.
void Transformer::mlp_backward(int64_t index) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  if (weights.down_bias) backend_.bias_backward(weights.down_bias.gradient, work_.residual_gradient);
  RowGather dy = gathered(work_.residual_gradient, work_.gathered_gradient);
  backend_.rmsnorm_forward(work_.normed, layer.middle_rstd, layer.middle, weights.post_attention_norm.weight,
                           config_.rms_norm_eps);
  RowGather x = gathered(work_.normed, work_.gathered);
  linear_input_gradient(backend_, work_.swiglu_gradient, dy, weights.down_weight.weight);
  backend_.swiglu_backward(gate(layer.gate_up), up(layer.gate_up), work_.swiglu, work_.swiglu_gradient,
                           gate(layer.gate_up), up(layer.gate_up));
  linear_weight_gradient(backend_, weights.down_weight.gradient, dy.all(), work_.swiglu, accumulate_);
  RowScatter dx = scattered(work_.branch_gradient);
  column_parallel_backward(backend_, dx, weights.gate_up_weight_gradient, weights.gate_up_bias_gradient, layer.gate_up,
                           x, weights.gate_up_weight, accumulate_);
  backend_.rmsnorm_backward(work_.residual_gradient, weights.post_attention_norm.gradient, work_.branch_gradient,
                            layer.middle, weights.post_attention_norm.weight, layer.middle_rstd, /*accumulate=*/true);
}

// The MLP tile by tile: its columns, 2·F and F wide, exist for one tile of rows at a time. What is C wide is whole; its
// chunks travel as soon as a tile has finished them and arrive when one wants them, wherever tiles begin and end. With
// tp 1 a tile's result takes the place of its own input, which was read by then.
void Transformer::mlp_tiles_forward(int64_t index, Tensor output) {
  const LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  backend_.rmsnorm_forward(work_.normed, layer.middle_rstd, layer.middle, weights.post_attention_norm.weight,
                           config_.rms_norm_eps);
  RowGather x = gathered(work_.normed, work_.gathered);
  RowScatter y = scattered(work_.normed);
  const int64_t rows = row_shards_.rows(), tile = layer.gate_up.size(0);
  for (int64_t begin = 0; begin < rows; begin += tile) {
    const int64_t end = std::min(begin + tile, rows);
    const Tensor gate_up = layer.gate_up.rows(0, end - begin), swiglu = work_.swiglu.rows(0, end - begin);
    column_parallel_forward(backend_, gate_up, x.rows(begin, end), weights.gate_up_weight, weights.gate_up_bias);
    backend_.swiglu_forward(swiglu, gate(gate_up), up(gate_up));
    row_parallel_forward(backend_, y.rows(begin, end), swiglu, weights.down_weight.weight);
    y.done(end);
  }
  y.finish();
  if (weights.down_bias) backend_.add_bias(work_.normed, weights.down_bias.weight);
  backend_.sum(output, layer.middle, work_.normed);
}

// Needs middle of this layer only: gate and up are computed again, a tile at a time. The same ops on each row as
// mlp_input and mlp_backward; a weight's gradient adds up tile after tile.
void Transformer::mlp_tiles_backward(int64_t index) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];

  backend_.rmsnorm_forward(work_.normed, layer.middle_rstd, layer.middle, weights.post_attention_norm.weight,
                           config_.rms_norm_eps);
  RowGather x = gathered(work_.normed, work_.gathered);
  if (weights.down_bias) backend_.bias_backward(weights.down_bias.gradient, work_.residual_gradient);
  RowGather dy = gathered(work_.residual_gradient, work_.gathered_gradient);
  RowScatter dx = scattered(work_.branch_gradient);
  const int64_t rows = row_shards_.rows(), tile = layer.gate_up.size(0);
  for (int64_t begin = 0; begin < rows; begin += tile) {
    const int64_t end = std::min(begin + tile, rows);
    const Tensor gate_up = layer.gate_up.rows(0, end - begin), swiglu = work_.swiglu.rows(0, end - begin);
    const bool add = accumulate_ || begin > 0;
    const Tensor dswiglu = work_.swiglu_gradient.rows(0, end - begin);
    const Tensor x_tile = x.rows(begin, end);
    column_parallel_forward(backend_, gate_up, x_tile, weights.gate_up_weight, weights.gate_up_bias);
    const Tensor dy_tile = dy.rows(begin, end);
    linear_input_gradient(backend_, dswiglu, dy_tile, weights.down_weight.weight);
    backend_.swiglu_backward(gate(gate_up), up(gate_up), swiglu, dswiglu, gate(gate_up), up(gate_up));
    linear_input_gradient(backend_, dx.rows(begin, end), gate_up, weights.gate_up_weight);
    dx.done(end);
    linear_weight_gradient(backend_, weights.down_weight.gradient, dy_tile, swiglu, add);
    linear_weight_gradient(backend_, weights.gate_up_weight_gradient, gate_up, x_tile, add);
    if (weights.gate_up_bias_gradient) backend_.bias_backward(weights.gate_up_bias_gradient, gate_up);
  }
  dx.finish();
  backend_.rmsnorm_backward(work_.residual_gradient, weights.post_attention_norm.gradient, work_.branch_gradient,
                            layer.middle, weights.post_attention_norm.weight, layer.middle_rstd, /*accumulate=*/true);
}

// Needs qkv (and qkv_raw, rstd with q/k norms), attention, lse, input and input_rstd of this layer. Gathers as in
// mlp_backward.
void Transformer::attention_backward(int64_t index) {
  LayerParameters& weights = parameters_.layers[index];
  LayerActivations& layer = activations_.layers[index];
  const Tensor dqkv = work_.qkv_gradient;

  if (weights.o_bias) backend_.bias_backward(weights.o_bias.gradient, work_.residual_gradient);
  RowGather dy = gathered(work_.residual_gradient, work_.gathered_gradient);
  backend_.rmsnorm_forward(work_.normed, layer.input_rstd, layer.input, weights.input_norm.weight,
                           config_.rms_norm_eps);
  RowGather x = gathered(work_.normed, work_.gathered);
  linear_input_gradient(backend_, work_.attention_gradient, dy, weights.o_weight.weight);
  linear_weight_gradient(backend_, weights.o_weight.gradient, dy.all(), layer.attention, accumulate_);
  ring_->backward(query(dqkv), key(dqkv), value(dqkv), attention_heads(work_.attention_gradient), query(layer.qkv),
                  key(layer.qkv), value(layer.qkv), attention_heads(layer.attention), layer.lse, scale_);
  backend_.rotate(query_and_key_rows(dqkv), batch_.position, cosine_, sine_, /*inverse=*/true);
  if (config_.qk_norm) {
    // The gradients before the norms are formed beside their inputs, then take their place in the fused rows.
    const Tensor before_query = rows_of(work_.head_gradient, 0, shards_.heads);
    const Tensor before_key = rows_of(work_.head_gradient, shards_.heads, shards_.kv_heads);
    backend_.rmsnorm_backward(before_query, weights.q_norm.gradient, query_rows(dqkv), query_rows(layer.qkv_raw),
                              weights.q_norm.weight, layer.q_rstd);
    backend_.rmsnorm_backward(before_key, weights.k_norm.gradient, key_rows(dqkv), key_rows(layer.qkv_raw),
                              weights.k_norm.weight, layer.k_rstd);
    backend_.copy(query_rows(dqkv), before_query);
    backend_.copy(key_rows(dqkv), before_key);
  }

  RowScatter dx = scattered(work_.branch_gradient);
  column_parallel_backward(backend_, dx, weights.qkv_weight_gradient, weights.qkv_bias_gradient, dqkv, x,
                           weights.qkv_weight, accumulate_);
  backend_.rmsnorm_backward(work_.residual_gradient, weights.input_norm.gradient, work_.branch_gradient, layer.input,
                            weights.input_norm.weight, layer.input_rstd, /*accumulate=*/true);
}

}  // namespace carillon
