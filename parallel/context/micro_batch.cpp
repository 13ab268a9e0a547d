#include "parallel/context/micro_batch.h"

#include <algorithm>

namespace carillon {

HostBatch::HostBatch(int64_t sequences, int64_t row_length)
    : batch(sequences),
      length(row_length),
      tokens(static_cast<size_t>(sequences * row_length)),
      position(tokens.size()),
      first(tokens.size(), row_length),
      target(tokens.size(), -1),
      reach(tokens.size()),
      target_weight(tokens.size()),
      sequence(static_cast<size_t>(sequences)) {}

void HostBatch::pad(size_t row) {
  tokens[row] = 0;
  position[row] = 0;
  first[row] = length;
  target[row] = -1;
  reach[row] = 0;
  target_weight[row] = 0;
}

MicroBatch HostBatch::view() {
  return {Tensor::of(tokens, {batch, length}),        Tensor::of(position, {batch, length}),
          Tensor::of(first, {batch, length}),         Tensor::of(target, {batch, length}),
          Tensor::of(target_weight, {batch, length}), Tensor::of(sequence, {batch}),
          Tensor::of(reach, {batch, length})};
}

ShardedBatch::ShardedBatch(const SequenceLayout& layout, int cp_rank, int64_t batch)
    : layout_(layout), cp_rank_(cp_rank), memory_(batch, layout.local()), local_(memory_.view()) {}

const MicroBatch& ShardedBatch::shard(const MicroBatch& whole) {
  // Padding stands at the end of the sequence. Its `first` is the padded length, which is past every index and keeps
  // `first` non-decreasing along the row.
  layout_.shard(local_.tokens, whole.tokens, cp_rank_, 0);
  layout_.shard(local_.position, whole.position, cp_rank_, 0);
  layout_.shard(local_.first, whole.first, cp_rank_, static_cast<double>(layout_.padded()));
  layout_.shard(local_.target, whole.target, cp_rank_, -1);
  layout_.shard(local_.target_weight, whole.target_weight, cp_rank_, 0);
  layout_.shard(local_.reach, whole.reach, cp_rank_, 0);
  const auto from = whole.sequence.span<int64_t>();
  std::copy(from.begin(), from.end(), local_.sequence.span<int64_t>().begin());
  return local_;
}

}  // namespace carillon
