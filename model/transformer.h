// The network: a stack of blocks (attention, gated MLP), each with its own LayerSpec, with forward pass and
// hand-written backward pass, on any grid. model/README.md gives the block's equations and the function that computes
// each.
//
// One micro-batch is B sequences. This rank holds Tl = T/cp tokens of each and, between blocks, the row shard N/tp of
// its N = B·Tl rows (parallel/tensor/row_shards.h). The constructor allocates all memory from an Arena; a step
// allocates nothing.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "model/activation_offload.h"
#include "model/activations.h"
#include "model/parameters.h"
#include "model/rotations.h"
#include "parallel/context/key_value_cache.h"
#include "parallel/context/micro_batch.h"
#include "parallel/context/ring_attention.h"
#include "parallel/tensor/row_shards.h"
#include "parallel/tensor/vocabulary_parallel.h"

namespace carillon {

struct TransformerOptions {
  DType compute = DType::kFloat32;
  Recompute recompute = Recompute::kSelective;
  bool training = true;         // false: forward only
  int64_t batch = 1;            // B
  int64_t loss_chunk_rows = 0;  // rows of logits alive at once; 0: about 192 MiB of them
  int64_t positions = 0;        // length of the rotation table: one more than the largest position
  // Rows that the MLP processes at a time, 0: all. Its working memory then holds only this many rows. Not with
  // Recompute::kNone, because the activations of a tile are not kept. Activations have the same bits if products work
  // row by row; gradients of the MLP's weights are sums over tiles and differ in rounding. On cp·tp ranks a tile is
  // taken from the rank's N rows.
  int64_t mlp_tile = 0;
  bool offload_checkpoints = false;  // training, not with Recompute::kNone: activation_offload.h
  uint64_t dropout_seed = 0;         // of the adapters' dropout, in training
  int64_t tensor_chunks = 0;         // chunks in which rows travel between tp ranks, 0: as row_shards.h chooses
  // Generation, forward only: holds the keys and values. Two transformers share the weights and one cache: one
  // processes the prompt (fill_cache), the other (`one_token`) has rows for one token of each sequence (next_logits).
  KeyValueCache* cache = nullptr;
  bool one_token = false;
};

// What attention computed in one layer of the pass that is running: this rank's rows and heads.
struct AttentionView {
  int64_t layer;
  Tensor fused;             // [N, (NHl + NKVl)·HD] or wider: queries and keys as attention took them
  Tensor lse;               // [B, NHl, Tl] (A): log of the sum of exp(score), over the whole ring
  int64_t heads, kv_heads;  // NHl, NKVl
  double scale;             // score = scale · query · key
  int64_t window;           // 0: none
};

class Transformer {
 public:
  Transformer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const TensorShards& shards,
              Parameters& parameters, const SequenceLayout& layout, const TransformerOptions& options, Arena& arena,
              Arena* host = nullptr);  // host: where offloaded activations go

  // Fills the rotation tables for sequences of `length` tokens and sets the queries' temperature. A learned rotation is
  // computed from the current parameters, so call this again when they have changed. Fails with error 64 if windowed
  // layers are given a separate rotation for which this transformer has no table, or if a learned rotation has not been
  // learned. Positions beyond TransformerOptions::positions cause an InternalError later. If the model's own rope has
  // mixed_windows, MicroBatch::reach is read.
  void set_rotation(const ModelRope& rope, int64_t length) { rotations_.set(rope, length); }

  // Runs the forward pass only; afterwards losses() is valid. Keeps nothing for a backward pass. Collective over cp and
  // tp.
  void forward(const MicroBatch& batch);
  // Runs forward and backward pass of Σ target_weight · emphasis · loss and adds the gradients to those of the
  // parameters. Without `accumulate` it overwrites those of ParameterShard::overwritten, which may then hold anything
  // before the call. When a layer's gradients are complete, calls `layer_done` (if given) with its index, last layer
  // first; before all of them with the number of layers, for the last norm and an untied head.
  void forward_backward(const MicroBatch& batch, bool accumulate,
                        const std::function<void(int64_t layer)>& layer_done = {});

  // Evaluation: encode() runs all layers and the last norm, without a loss. After it pooled() may be called any number
  // of times: it returns Σ over this rank's rows of weight[row] · output of the last norm, [C]. Weights are rounded to
  // the compute type; 0 and 1 are exact. Both are collective over cp and tp. The sum is the same on every tp rank; the
  // caller has to add it up over cp.
  void encode(const MicroBatch& batch);
  std::vector<double> pooled(std::span<const double> weight);

  // Generation: puts the prompt's keys and values into the cache. No loss. Collective over cp and tp.
  void fill_cache(const MicroBatch& prompt);
  // Generation: processes the token at `index` of each sequence ([B, 1] each; targets are ignored), whose predecessors
  // are in the cache, and adds it to the cache. Returns this tp rank's columns of the logits of the token after it,
  // [B, Vl] (A), in memory owned by the transformer. Collective over cp and tp; the result is the same on every cp
  // rank.
  Tensor next_logits(const MicroBatch& token, int64_t index);

  // Sets a function that is called in each layer of every forward pass, after attention; empty: none.
  void set_probe(std::function<void(const AttentionView&)> probe) { probe_ = std::move(probe); }

  // -log p(target) of each local row in the last pass, [N] (A); 0 without a target; the same on every tp rank.
  Tensor losses() const { return losses_; }
  // Evaluation only, for the last forward(): [N] (A), the target's logit minus the row's largest logit; 0 if the target
  // is the greedy choice, and without a target. Collective over tp; the next call overwrites its memory.
  Tensor margins();
  // Σ over local rows of target_weight · emphasis · loss, in float64.
  double weighted_loss() const;

 private:
  void set_batch(const MicroBatch& batch, int64_t index = -1);
  void forward_layers(bool keep);
  void norm_input(int64_t layer);
  void attention_forward(int64_t layer, bool attend);
  void attention_output(int64_t layer);
  void mlp_input(int64_t layer);
  void mlp_output(int64_t layer, Tensor output);
  void finish_mlp(int64_t layer, Tensor output, Tensor branch_output);
  void mlp_backward(int64_t layer);
  void mlp_tiles_forward(int64_t layer, Tensor output);
  void mlp_tiles_backward(int64_t layer);
  void attention_backward(int64_t layer);
  const LayerSpec& spec(int64_t layer) const { return config_.layers[static_cast<size_t>(layer)]; }
  // norm(x), or x itself without a norm; the same where normed holds it already; and the way back: residual_gradient +=
  // that by x, from branch_gradient, with norm(x) again in `output` unless absent.
  Tensor norm_before(const Parameter& norm, Tensor rstd, Tensor x);
  Tensor normed(const Parameter& norm, Tensor x) const { return norm ? work_.normed : x; }
  void norm_before_backward(Parameter& norm, Tensor x, Tensor rstd, Tensor output = {});
  NormOptions backward_options() const;
  void add_branch(int64_t layer, Tensor sum, Tensor x, const Parameter& norm, Tensor rstd, Tensor branch_output,
                  const Parameter& next, Tensor next_rstd);
  Tensor branch_backward(int64_t layer, Parameter& norm, Tensor rstd, Tensor branch_output);
  void normalise_heads(int64_t layer, Tensor to, Tensor from);
  void normalise_heads_backward(int64_t layer, Tensor gradient, Tensor from);
  void sum_over_projections(NormOptions& of_queries, NormOptions& of_keys);
  void rotate(int64_t layer, Tensor fused, bool inverse);
  double rounded(double multiplier) const;
  void add_rotation_gradient(int64_t layer, Tensor dqkv, Tensor qkv);
  bool windowed(int64_t layer) const { return spec(layer).attention.window > 0; }
  const RotationTable& rotation_of(int64_t layer) const { return rotations_.table(windowed(layer)); }
  int mask_of(int64_t layer) const { return masks_[static_cast<size_t>(layer)]; }
  RowGather gathered(Tensor shard, Tensor work, bool arrived = false) {
    return {*grid_.tp, row_shards_, work, shard, arrived};
  }
  void column_backward(Tensor dy, RowGather& x, const Linear& linear, Parameter& norm, Tensor residual, Tensor rstd,
                       bool again);
  RowScatter scattered(Tensor shard) { return {*grid_.tp, row_shards_, shard, work_.partial}; }
  // Views of fused rows [N, heads·HD] or [N, 2·Fl]; nothing is copied.
  Tensor heads_of(Tensor fused, int64_t first_head, int64_t heads) const;  // [B, Tl, heads, HD]
  Tensor rows_of(Tensor fused, int64_t first_head, int64_t heads) const {  // [N, heads, HD]
    return fused.slice(1, first_head * config_.head_dim, (first_head + heads) * config_.head_dim).split_dim(1, heads);
  }
  Tensor query(Tensor fused) const { return heads_of(fused, 0, shards_.heads); }
  Tensor key(Tensor fused) const { return heads_of(fused, shards_.heads, shards_.kv_heads); }
  Tensor value(Tensor fused) const { return heads_of(fused, shards_.heads + shards_.kv_heads, shards_.kv_heads); }
  Tensor query_rows(Tensor fused) const { return rows_of(fused, 0, shards_.heads); }
  Tensor key_rows(Tensor fused) const { return rows_of(fused, shards_.heads, shards_.kv_heads); }
  Tensor query_and_key_rows(Tensor fused) const { return rows_of(fused, 0, shards_.heads + shards_.kv_heads); }
  Tensor attention_heads(Tensor rows) const { return heads_of(rows, 0, shards_.heads); }
  Tensor query_projection(Tensor fused) const { return fused.slice(1, 0, shards_.heads * config_.head_dim); }
  Tensor key_projection(Tensor fused) const {
    return fused.slice(1, shards_.heads * config_.head_dim, (shards_.heads + shards_.kv_heads) * config_.head_dim);
  }
  Tensor query_sums() const { return work_.row_sums.rows(0, 1).reshape({-1}); }
  Tensor key_sums() const { return work_.row_sums.rows(1, 2).reshape({-1}); }
  // The memory and parameters for adapters, for a pass over all rows or over rows [begin, end).
  LowRankWork adapter_work(int64_t begin, int64_t end) const;
  LowRankWork adapter_work() const { return adapter_work(0, row_shards_.rows()); }
  Tensor gate(Tensor fused) const { return fused.slice(1, 0, fused.size(1) / 2); }
  Tensor up(Tensor fused) const { return fused.slice(1, fused.size(1) / 2, fused.size(1)); }

  Backend& backend_;
  ProcessGrid& grid_;
  const ModelConfig& config_;
  const TensorShards shards_;
  Parameters& parameters_;
  SequenceLayout layout_;
  TransformerOptions options_;
  int64_t local_;  // rows per sequence on this rank: Tl, or 1
  const RowShards row_shards_;
  bool mlp_tiled_;
  bool accumulate_ = true;  // of this backward pass
  const NormOptions norm_options_;
  const std::vector<int64_t> windows_;  // the distinct ones; each has a mask
  std::vector<int> masks_;              // [L] index into windows_

  Activations activations_;
  WorkingMemory work_;
  BatchOnDevice batch_;
  Rotations rotations_;
  Tensor losses_;                       // [N] (A)
  Tensor margins_;                      // [N] (A), evaluation only
  Tensor logits_;                       // [N, Vl] (A), one_token only
  Tensor encoded_;                      // [N, C] of the last encode()
  Tensor pool_weight_, pool_sum_;       // [1, N], [1, C] (A), evaluation only
  std::optional<RingAttention> ring_;   // not with one_token
  std::optional<VocabularyLoss> loss_;  // not with a cache
  std::optional<ActivationOffload> offload_;
  std::function<void(const AttentionView&)> probe_;
  // Host staging, so that a step allocates nothing.
  std::vector<std::vector<int64_t>> staged_first_;  // of each mask
  std::vector<int64_t> staged_position_, staged_row_;
  std::vector<char> staged_weight_, staged_factor_;
  mutable std::vector<char> staged_loss_;
};

}  // namespace carillon
