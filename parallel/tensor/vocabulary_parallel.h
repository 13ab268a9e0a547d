// Embedding and cross-entropy with the vocabulary's rows split over tp (Shoeybi et al., 1909.08053, §3). The loss works
// in chunks of rows, so [N, V] logits never exist, and leaves out the rows without a target: a chunk is the next so
// many rows with one from every rank's row shard, gathered.
#pragma once

#include <vector>

#include "parallel/tensor/row_shards.h"
#include "parallel/transport/communicator.h"
#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace carillon {

// y[N, C] = rows of the embedding of ids[N], scattered; table[Vl, C] holds rows [first_row, first_row + Vl).
void embedding_parallel_forward(Backend& backend, RowScatter& y, Tensor ids, Tensor table, int64_t first_row);
// dtable (A) += from dy[N, C].
void embedding_parallel_backward(Backend& backend, Tensor dtable, Tensor ids, RowGather& dy, int64_t first_row);

class VocabularyLoss {
 public:
  // Allocates what lasts from set_targets() to run(), whatever lies between.
  // logit_cap: logits are cap · tanh(x · weight / cap); 0: as they are.
  // chunk_rows: rows of logits alive at once, rounded up to a multiple of tp. Memory chunk_rows · Vl · 4 bytes,
  // float64 8.
  VocabularyLoss(Backend& backend, Communicator& tp, const RowShards& shards, int64_t channels,
                 int64_t vocabulary_local, int64_t first_row, int64_t chunk_rows, DType compute, Arena& arena,
                 bool with_margins = false, double logit_cap = 0);

  // What only run() and margins() compute with: others may use it at other times.
  void allocate_work(Arena& arena);

  // Of the micro-batch to come, both in host memory and not kept: target[N] int64 (-1 none), target_weight[N] (A).
  // Before its forward pass: the rows with a target are listed and uploaded here, where the queue is empty, and no
  // run() waits for the device.
  void set_targets(Tensor target, Tensor target_weight);

  // x_shard[N/tp, C] (after the final norm, allocated as `shards`), weight[Vl, C] (lm_head or the tied embedding).
  // loss[N] (A) = -log p(target) per row, 0 without target: the same
  // on every tp rank. With gradients: dx_shard[N/tp, C] (T) = d(Σ weight·loss)/dx and dweight (A) += … with
  // `accumulate`, else = …; pass absent tensors to leave both out (evaluation), or dweight alone (a frozen weight).
  void run(Tensor loss, Tensor dx_shard, Tensor dweight, Tensor x_shard, Tensor weight, bool accumulate);

  // After run() without gradients, on a loss built with `margins`: margin[N] (A) = the target's logit less the largest
  // logit of the row, so 0 where the target is the greedy choice; 0 without target. The same on every tp rank.
  void margins(Tensor margin);

 private:
  // Where the rows with a target stand; the same on every tp rank, because targets are.
  struct Chunk {
    std::vector<int64_t> counts;  // rows each tp rank gives
    int64_t begin;                // in the compacted order
    int64_t rows;
  };
  Chunk chunk_at(int64_t index) const;
  Tensor gather_chunk(const Chunk& chunk, int64_t index, Tensor x_shard);
  void run_chunk(const Chunk& chunk, Tensor x, Tensor dweight, Tensor weight, bool gradients, bool accumulate);
  void spread(Tensor rows, Tensor compacted);
  void scatter_gradient(const Chunk& chunk, int64_t index, Tensor dx_shard);

  Backend& backend_;
  Communicator& tp_;
  RowShards shards_;
  int64_t rows_;   // N
  int64_t shard_;  // N/tp
  int64_t first_row_;
  int64_t most_per_rank_;   // rows of a chunk that one tp rank may give
  int64_t chunk_per_rank_;  // … that it does give at present, so that chunks are about equal
  DType compute_;
  double logit_cap_;
  int64_t channels_, vocabulary_local_;
  bool with_margins_;

  Tensor picked_;    // [chunk/tp, C] (T)  this rank's rows of a chunk; then their gradient
  Tensor gathered_;  // [chunk, C] (T)     all ranks' rows; then the gradient's part (tp > 1: summed into picked_)
  Tensor gradient_;  // [chunk, C] (T)
  // [chunk, Vl] (A), rows a multiple of 8 elements apart: products want rows that begin on 16 bytes, whatever Vl is.
  // Their gradient (T) takes their place.
  Tensor logits_;
  Tensor maximum_;  // [chunk] (A)
  Tensor sums_;     // [2·chunk] (A)
  Tensor target_;   // [N] int64  compacted: chunk by chunk, in each the ranks one after another
  Tensor weight_;   // [N] (A)    compacted
  Tensor loss_;     // [N] (A)    compacted
  Tensor margin_;   // [N] (A)    compacted; only with margins
  Tensor place_;    // [N] int64  row -> compacted row, -1 without target
  Tensor pick_;     // [N/tp] int64  n-th row with target of this shard -> row of the shard
  Tensor unpick_;   // [N/tp] int64  row of the shard -> row among the rank's rows of its chunk, -1 without target

  // The same on the host; kept, so that a step allocates nothing.
  std::vector<int64_t> host_compact_target_, host_place_, host_pick_, host_unpick_;
  std::vector<char> host_compact_weight_;
  std::vector<std::vector<int64_t>> active_;  // [tp] rows with target of each shard, increasing
  int64_t chunks_ = 0;
  int64_t compacted_ = 0;
};

}  // namespace carillon
