// Keys and values of tokens already seen, for generation; sharded along cp exactly as the sequence is.
//
// The cache is sized for the whole sequence, prompt and continuation: every token index has a fixed place in the
// SequenceLayout, and places not yet filled lie after every query, so the usual mask contract (runtime/backend.h) hides
// them. The prompt's keys come from an ordinary pass over the ring. After that, all context ranks attend to each new
// token at once, each over its own rows. The partial softmax states are gathered and summed in rank order, in float64:
// one exchange of HD + 2 numbers per head, layer and sequence, whatever the length of the sequence.
#pragma once

#include <vector>

#include "parallel/context/sequence_layout.h"
#include "parallel/transport/communicator.h"
#include "runtime/backend.h"
#include "runtime/buffer.h"

namespace carillon {

class KeyValueCache {
 public:
  struct Shape {
    int64_t layers;
    int64_t batch;     // B sequences, all at the same token index
    int64_t heads;     // NHl: query heads on this rank
    int64_t kv_heads;  // NKVl
    int64_t head_dim;  // HD
    DType compute;     // T
    int masks = 1;     // number of different masks of a token, e.g. with a window and without
  };
  // Memory from `arena`: layers · B · Tl · 2·NKVl·HD of T.
  KeyValueCache(Backend& backend, Communicator& cp, const SequenceLayout& layout, const Shape& shape, Arena& arena);

  const SequenceLayout& layout() const { return layout_; }

  // Stores keys and values of this rank's whole part of the sequence, [B, Tl, NKVl, HD], rotated; rows beyond the
  // prompt may hold anything.
  void store(int64_t layer, Tensor k, Tensor v);

  // Sets the next token's index in the sequence, and what its rows see under each mask: first [B, 1] int64 on the
  // device, as AttentionMask::first.
  void set_token(int64_t index, const std::vector<Tensor>& first);
  // Puts the token's own keys and values [B, 1, NKVl, HD] in their place, then writes its attention over everything up
  // to and including itself, under mask `mask`, to out [B, 1, NHl, HD]. sinks [NHl] (T) as for attention_begin, absent
  // if there are none. Collective over cp; the result is the same on every rank of it.
  void attend(int64_t layer, Tensor out, Tensor q, Tensor k, Tensor v, double scale, int mask = 0, Tensor sinks = {});

 private:
  Tensor part(int64_t layer, int64_t which) const;  // [B, Tl, NKVl, HD]; which: 0 keys, 1 values
  void merge_over_ranks();

  Backend& backend_;
  Communicator& cp_;
  SequenceLayout layout_;
  Shape shape_;
  int64_t index_ = -1;

  Tensor keys_values_;         // [2·layers, B·Tl·NKVl·HD] (T)
  Tensor key_index_;           // [Tl] int64
  Tensor query_index_;         // [1] int64
  std::vector<Tensor> first_;  // of each mask: [B, 1] int64, the caller's
  Tensor packed_;              // accumulator, maximum and sum of state_ concatenated (A)
  AttentionState state_;
  Tensor lse_;  // [B, NHl, 1] (A)
  bool indices_ready_ = false;

  std::vector<double> own_, all_;  // this rank's softmax state; those of all ranks
  std::vector<float> single_;
};

}  // namespace carillon
