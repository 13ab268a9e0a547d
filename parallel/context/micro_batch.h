// One micro-batch of B sequences: what the data make and the network takes. It is declared here because neither of the
// two knows the other and both know how a sequence is split.
#pragma once

#include <vector>

#include "parallel/context/sequence_layout.h"
#include "runtime/tensor.h"

namespace carillon {

// Views of host memory that somebody else owns: Tl tokens of each sequence on a context rank, or all T of them before
// sharding. A padding row has token and position 0, target -1, weight 0, and a `first` past its own index: the empty
// interval, it sees nothing.
struct MicroBatch {
  Tensor tokens;         // [B, Tl] int64
  Tensor position;       // [B, Tl] int64: position inside the document
  Tensor first;          // [B, Tl] int64: sequence index of the first key the row may see, before any window
  Tensor target;         // [B, Tl] int64: the document's next token (shifted before sharding), -1 none
  Tensor target_weight;  // [B, Tl] float64
  Tensor sequence;       // [B] int64: the sequence's number among all that a run takes, what a dropout counts by
  // [B, Tl] int64: how far the row's document reaches, one more than the largest of its positions; 0 of padding. What a
  // rotation goes by that follows each document's length (rope.mixed_windows).
  Tensor reach;
  // [B, Tl] float64, or absent: 1. Multiplies target_weight in the loss and its gradient, but not in what the sum is
  // divided by.
  Tensor emphasis = {};
};

// The memory of a micro-batch, filled row by row (b · length + index). It begins as padding.
struct HostBatch {
  HostBatch(int64_t sequences, int64_t row_length);
  // Row `row` as padding of a sequence of `length` tokens.
  void pad(size_t row);
  MicroBatch view();

  int64_t batch, length;
  std::vector<int64_t> tokens, position, first, target, reach;
  std::vector<double> target_weight;
  std::vector<int64_t> sequence;  // [batch], 0 unless somebody says otherwise
};

// This context rank's part of whole sequences, padded to the layout. Owns its memory and is used again every
// micro-step.
class ShardedBatch {
 public:
  ShardedBatch(const SequenceLayout& layout, int cp_rank, int64_t batch);
  // `whole`: the tensors at [B, length].
  const MicroBatch& shard(const MicroBatch& whole);

 private:
  SequenceLayout layout_;
  int cp_rank_;
  HostBatch memory_;
  MicroBatch local_;
};

}  // namespace carillon
