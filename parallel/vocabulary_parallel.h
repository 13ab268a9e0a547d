// Embedding and cross-entropy with the vocabulary's rows split over tp (Shoeybi et al., 1909.08053, §3). The loss works
// in chunks of rows, so [N, V] logits never exist, and leaves out chunks' rows without a target.
#pragma once

#include "parallel/communicator.h"
#include "runtime/backend.h"

namespace carillon {

// shard[N/tp, C] = rows of the embedding of ids[N]; table[Vl, C] holds rows [first_row, first_row + Vl).
// work: [N, C] (T).
void embedding_parallel_forward(Backend& backend, Communicator& tp, Tensor shard, Tensor ids, Tensor table,
                                int64_t first_row, Tensor work);
// dtable (A) += from dshard[N/tp, C].
void embedding_parallel_backward(Backend& backend, Communicator& tp, Tensor dtable, Tensor ids, Tensor dshard,
                                 int64_t first_row, Tensor work);

class VocabularyLoss {
 public:
  // chunk_rows: rows of logits alive at once (memory chunk_rows · Vl · 4 bytes, float64: 8).
  VocabularyLoss(Backend& backend, Communicator& tp, int64_t rows, int64_t channels, int64_t vocabulary_local,
                 int64_t first_row, int64_t chunk_rows, DType compute, Arena& arena);

  // x_shard[N/tp, C] (after the final norm), weight[Vl, C] (lm_head or the tied embedding), target[N] int64 (-1 none),
  // target_weight[N] (A). loss[N] (A) = -log p(target) per row, 0 without target: the same on every tp rank.
  // With gradients: dx_shard[N/tp, C] (T) = d(Σ weight·loss)/dx and dweight (A) += …; pass absent tensors to leave them
  // out (evaluation).
  void run(Tensor loss, Tensor dx_shard, Tensor dweight, Tensor x_shard, Tensor weight, Tensor target,
           Tensor target_weight);
};

}  // namespace carillon
