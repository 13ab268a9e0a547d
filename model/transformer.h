// The network: a stack of pre-norm blocks (attention, SwiGLU) as in the Llama family, forward and hand-written
// backward, on any grid. model/README.md shows the block's equations with the line that computes each.
//
// One micro-batch is B sequences, of which this rank holds Tl = T/cp tokens each, and between blocks the row shard N/tp
// of its N = B·Tl rows (parallel/tensor/row_shards.h). All memory is allocated from an Arena in the constructor; a step
// allocates nothing.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "model/activation_offload.h"
#include "model/activations.h"
#include "model/parameters.h"
#include "model/rope.h"
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
  // Rows the MLP works on at a time, 0: all. Its working memory is then this many rows'; so that a tile need not be
  // kept, not with Recompute::kNone. Activations stay the same bits where products go by rows; gradients of its weights
  // are sums over tiles and differ in rounding. On cp·tp ranks a tile is of the rank's N rows.
  int64_t mlp_tile = 0;
  bool offload_checkpoints = false;  // training, not with Recompute::kNone: activation_offload.h
  int64_t tensor_chunks = 0;         // in which rows travel between tp ranks, 0: as row_shards.h chooses
  // Generation, forward only: whose keys and values are kept. Two transformers share the weights and one cache: one
  // takes the prompt (fill_cache), the other (`one_token`) has rows for one token of each sequence (next_logits).
  KeyValueCache* cache = nullptr;
  bool one_token = false;
};

class Transformer {
 public:
  Transformer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, const TensorShards& shards,
              Parameters& parameters, const SequenceLayout& layout, const TransformerOptions& options, Arena& arena,
              Arena* host = nullptr);  // host: where offloaded activations go

  // Fills the rotation table. Positions beyond it are an InternalError.
  void set_rotation(const RopeTable& table);

  // Forward pass only; then losses(). Collective over cp and tp.
  void forward(const MicroBatch& batch);
  // Forward and backward pass of Σ target_weight · loss; gradients are added to the parameters', but without
  // `accumulate` overwrite those of ParameterShard::overwritten, which may then hold anything before. After a layer's
  // gradients are complete `layer_done` (if any) is called with its index, last layer first, and before all of them
  // with the number of layers: the last norm's, and an untied head's.
  void forward_backward(const MicroBatch& batch, bool accumulate,
                        const std::function<void(int64_t layer)>& layer_done = {});

  // Generation: the prompt's keys and values into the cache. No loss. Collective over cp and tp.
  void fill_cache(const MicroBatch& prompt);
  // Generation: takes the token at `index` of each sequence ([B, 1] each; targets are not looked at), whose
  // predecessors are in the cache, and puts it there; returns this tp rank's columns of the logits of the token after
  // it, [B, Vl] (A), in memory of the transformer's. Collective over cp and tp; the same on every cp rank.
  Tensor next_logits(const MicroBatch& token, int64_t index);

  // Of the last pass: -log p(target) of each local row [N] (A), 0 without target; the same on every tp rank.
  Tensor losses() const { return losses_; }
  // Of the last forward(), evaluation only: [N] (A), the target's logit less the row's largest; 0 where the target is
  // the greedy choice, and without target. Collective over tp; its memory is overwritten by the next call.
  Tensor margins();
  // Σ over local rows of target_weight · loss, in float64.
  double weighted_loss() const;

 private:
  void load(const MicroBatch& batch, int64_t index = -1);
  void forward_layers();
  void attention_forward(int64_t layer, bool attend);
  void attention_output(int64_t layer);
  void mlp_input(int64_t layer);
  void mlp_output(int64_t layer, Tensor output);
  void mlp_backward(int64_t layer);
  void mlp_tiles_forward(int64_t layer, Tensor output);
  void mlp_tiles_backward(int64_t layer);
  void attention_backward(int64_t layer);
  RowGather gathered(Tensor shard, Tensor work) { return {*grid_.tp, row_shards_, work, shard}; }
  RowScatter scattered(Tensor shard) { return {*grid_.tp, row_shards_, shard, work_.partial}; }
  // Views of fused rows [N, heads·HD] or [N, 2·Fl]; nothing moves.
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
  Tensor gate(Tensor fused) const { return fused.slice(1, 0, fused.size(1) / 2); }
  Tensor up(Tensor fused) const { return fused.slice(1, fused.size(1) / 2, fused.size(1)); }

  Backend& backend_;
  ProcessGrid& grid_;
  const ModelConfig& config_;
  const TensorShards shards_;
  Parameters& parameters_;
  SequenceLayout layout_;
  TransformerOptions options_;
  int64_t local_;  // rows of a sequence on this rank: Tl, or 1
  const RowShards row_shards_;
  bool mlp_tiled_;
  bool accumulate_ = true;  // of this backward pass
  double scale_;            // of attention scores, 1/sqrt(HD)

  Activations activations_;
  WorkingMemory work_;
  BatchOnDevice batch_;
  Tensor cosine_, sine_;                // [positions, pairs] (A)
  Tensor losses_;                       // [N] (A)
  Tensor margins_;                      // [N] (A), evaluation only
  Tensor logits_;                       // [N, Vl] (A), one_token only
  std::optional<RingAttention> ring_;   // not with one_token
  std::optional<VocabularyLoss> loss_;  // not with a cache
  std::optional<ActivationOffload> offload_;
  std::vector<int64_t> staged_first_;  // host staging, so that a step allocates nothing
  std::vector<char> staged_weight_;
  mutable std::vector<char> staged_loss_;
};

}  // namespace carillon
