// One micro-batch of B sequences: the data code produces it, the network consumes it. It is declared here because
// neither of them depends on the other and both depend on how a sequence is split.
#pragma once

#include <vector>

#include "parallel/context/sequence_layout.h"
#include "runtime/tensor.h"

namespace carillon {

// Views of host memory owned by someone else: Tl tokens of each sequence on a context rank, or all T of them before
// sharding. A padding row has token and position 0, target -1, weight 0, and a `first` past its own index: an empty
// interval, so it sees no key.
struct MicroBatch {
  Tensor tokens;         // [B, Tl] int64
  Tensor position;       // [B, Tl] int64: position inside the document
  Tensor first;          // [B, Tl] int64: sequence index of the first key the row may see, before any window
  Tensor target;         // [B, Tl] int64: the document's next token (shifted before sharding), -1 none
  Tensor target_weight;  // [B, Tl] float64
  Tensor sequence;       // [B] int64: number of the sequence in the whole run; dropout masks are keyed by it
  // [B, Tl] int64: length of the row's document, i.e. its largest position plus one; 0 for padding. Rotations that
  // depend on the document's length use it (rope.mixed_windows).
  Tensor reach;
  // [B, Tl] float64, or absent for all 1. Multiplies target_weight in the loss and its gradient, but not in the
  // normaliser that the sum is divided by.
  Tensor emphasis = {};
};

// Owns the memory of a micro-batch, which is filled row by row (b · length + index). Initially all rows are padding.
struct HostBatch {
  HostBatch(int64_t sequences, int64_t row_length);
  // Turns row `row` into padding of a sequence of `length` tokens.
  void pad(size_t row);
  MicroBatch view();

  int64_t batch, length;
  std::vector<int64_t> tokens, position, first, target, reach;
  std::vector<double> target_weight;
  std::vector<int64_t> sequence;  // [batch], 0 unless set
};

// This context rank's part of whole sequences, padded to the layout. Owns its memory and reuses it in every micro-step.
class ShardedBatch {
 public:
  ShardedBatch(const SequenceLayout& layout, int cp_rank, int64_t batch);
  // Shards `whole`, whose tensors are [B, length]. The result is valid until the next call.
  const MicroBatch& shard(const MicroBatch& whole);

 private:
  SequenceLayout layout_;
  int cp_rank_;
  HostBatch memory_;
  MicroBatch local_;
};

}  // namespace carillon
