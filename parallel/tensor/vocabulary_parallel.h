// Embedding and cross-entropy with the vocabulary's rows split over tp (Shoeybi et al., 1909.08053, §3). The loss works
// in chunks of rows, so [N, V] logits never exist, and skips rows without a target: each chunk takes the next rows with
// a target from every rank's row shard, up to a fixed number, and gathers them.
#pragma once

#include <vector>

#include "parallel/tensor/row_shards.h"
#include "parallel/transport/communicator.h"
#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace carillon {

// y[N, C] = the embedding's rows for ids[N], scattered; table[Vl, C] holds rows [first_row, first_row + Vl).
void embedding_parallel_forward(Backend& backend, RowScatter& y, Tensor ids, Tensor table, int64_t first_row);
// dtable (A) += from dy[N, C].
void embedding_parallel_backward(Backend& backend, Tensor dtable, Tensor ids, RowGather& dy, int64_t first_row);

class VocabularyLoss {
 public:
  // Allocates the memory that must survive from set_targets() to run(), whatever runs in between.
  // logit_cap: logits become cap · tanh(x · weight / cap); 0: they are left as they are.
  // chunk_rows: rows of logits alive at once, rounded up to a multiple of tp. Memory: chunk_rows · Vl · 4 bytes, for
  // float64 8 bytes.
  VocabularyLoss(Backend& backend, Communicator& tp, const RowShards& shards, int64_t channels,
                 int64_t vocabulary_local, int64_t first_row, int64_t chunk_rows, DType compute, Arena& arena,
                 bool with_margins = false, double logit_cap = 0);

  // Allocates the memory that only run() and margins() use; it may be shared with work done at other times.
  void allocate_work(Arena& arena);

  // Sets the targets of the next micro-batch: target[N] int64 (-1 none), target_weight[N] (A), both in host memory and
  // not kept. Call it before the forward pass: the rows with a target are listed and uploaded here, while the queue is
  // empty, so that no run() waits for the device.
  void set_targets(Tensor target, Tensor target_weight);

  // x_shard[N/tp, C] is the output of the final norm, distributed as `shards`; weight[Vl, C] is lm_head or the tied
  // embedding. loss[N] (A) = -log p(target) per row, 0 without a target; the same on every tp rank. With gradients:
  // dx_shard[N/tp, C] (T) = d(Σ weight·loss)/dx, and dweight (A) += … with `accumulate`, otherwise = …. Pass both
  // absent to skip the gradients (evaluation), or dweight alone (a frozen weight).
  void run(Tensor loss, Tensor dx_shard, Tensor dweight, Tensor x_shard, Tensor weight, bool accumulate);

  // After run() without gradients, on a loss built with `with_margins`: margin[N] (A) = the target's logit minus the
  // row's largest logit, so 0 if the target is the greedy choice; 0 without a target. The same on every tp rank.
  void margins(Tensor margin);

 private:
  // Where the rows with a target are; the same on every tp rank, because the targets are.
  struct Chunk {
    std::vector<int64_t> counts;  // rows from each tp rank
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
  int64_t most_per_rank_;   // maximum number of a chunk's rows that come from one tp rank
  int64_t chunk_per_rank_;  // … the number currently used, so that chunks are about equal
  DType compute_;
  double logit_cap_;
  int64_t channels_, vocabulary_local_;
  bool with_margins_;

  Tensor picked_;    // [chunk/tp, C] (T)  this rank's rows of a chunk; then their gradient
  Tensor gathered_;  // [chunk, C] (T)     all ranks' rows of the chunk
  Tensor gradient_;  // [chunk, C] (T)     this rank's term of their gradient (tp > 1: then summed into picked_)
  // [chunk, Vl] (A). Rows are a multiple of 8 elements apart, because products want rows aligned to 16 bytes, whatever
  // Vl is. Their gradient (T) is written over them.
  Tensor logits_;
  Tensor maximum_;  // [chunk] (A)
  Tensor sums_;     // [2·chunk] (A)
  Tensor target_;   // [N] int64  compacted: chunk by chunk, within a chunk rank by rank
  Tensor weight_;   // [N] (A)    compacted
  Tensor loss_;     // [N] (A)    compacted
  Tensor margin_;   // [N] (A)    compacted; only with margins
  Tensor place_;    // [N] int64  row -> compacted row, -1 without target
  Tensor pick_;     // [N/tp] int64  n-th row with a target in this shard -> row of the shard
  Tensor unpick_;   // [N/tp] int64  row of the shard -> row among the rank's rows of its chunk, -1 without a target

  // Host copies; kept, so that a step allocates nothing.
  std::vector<int64_t> host_compact_target_, host_place_, host_pick_, host_unpick_;
  std::vector<char> host_compact_weight_;
  std::vector<std::vector<int64_t>> active_;  // [tp] rows with a target in each shard, increasing
  int64_t chunks_ = 0;
  int64_t compacted_ = 0;
};

}  // namespace carillon
