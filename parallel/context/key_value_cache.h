// Keys and values of tokens already seen, for generation; sharded along cp exactly as the sequence is.
//
// The cache is made for the whole sequence, prompt and continuation: every token index has its place in the
// SequenceLayout from the beginning, and places not yet filled lie after every query, so the one mask contract
// (runtime/backend.h) hides them. The prompt's keys come from an ordinary pass over the ring; then each new token is
// attended by all context ranks at once, each over its own rows, and the partial softmax states are gathered and added
// up in rank order, in float64: one exchange of HD + 2 numbers a head, layer and sequence, however long the sequence.
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
    int masks = 1;     // different ones of a token: a window's, none
  };
  // Memory from `arena`: layers · B · Tl · 2·NKVl·HD of T.
  KeyValueCache(Backend& backend, Communicator& cp, const SequenceLayout& layout, const Shape& shape, Arena& arena);

  const SequenceLayout& layout() const { return layout_; }

  // Keys and values of this rank's whole part of the sequence, [B, Tl, NKVl, HD], rotated; rows beyond the prompt may
  // hold anything.
  void store(int64_t layer, Tensor k, Tensor v);

  // The next token's index in the sequence, and what its rows see under each mask: first [B, 1] int64 on the device, as
  // AttentionMask::first.
  void set_token(int64_t index, const std::vector<Tensor>& first);
  // The token's own keys and values [B, 1, NKVl, HD] are put in their place, then out [B, 1, NHl, HD] is its attention
  // over everything up to itself under mask `mask`; sinks [NHl] (T) as for attention_begin, absent without. Collective
  // over cp; the same on every rank of it.
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

  std::vector<double> own_, all_;  // one softmax state, everybody's
  std::vector<float> single_;
};

}  // namespace carillon
