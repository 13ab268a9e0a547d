// One micro-batch of B sequences, as the network takes it; host memory, owned by somebody else.
#pragma once

#include <vector>

#include "parallel/context/sequence_layout.h"
#include "runtime/tensor.h"

namespace carillon {

// Tl tokens of each sequence on a context rank, or all T of them before sharding. Padding rows: target -1, weight 0,
// and `first` past their own index (the empty interval).
struct MicroBatch {
  Tensor tokens;         // [B, Tl] int64
  Tensor position;       // [B, Tl] int64: position inside the document
  Tensor first;          // [B, Tl] int64: sequence index of the first key the row may see, before any window
  Tensor target;         // [B, Tl] int64: the next token (shifted before sharding), -1 none
  Tensor target_weight;  // [B, Tl] float64
};

// This context rank's part of whole sequences, padded to the layout. Owns its memory and is used again every
// micro-step.
class ShardedBatch {
 public:
  ShardedBatch(const SequenceLayout& layout, int cp_rank, int64_t batch);
  // `whole`: the five tensors at [B, length].
  const MicroBatch& shard(const MicroBatch& whole);
  const MicroBatch& local() const { return local_; }

 private:
  SequenceLayout layout_;
  int cp_rank_;
  std::vector<int64_t> tokens_, position_, first_, target_;
  std::vector<double> weight_;
  MicroBatch local_;
};

}  // namespace carillon
