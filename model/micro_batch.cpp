#include "model/micro_batch.h"

namespace carillon {

ShardedBatch::ShardedBatch(const SequenceLayout& layout, int cp_rank, int64_t batch)
    : layout_(layout), cp_rank_(cp_rank) {
  const int64_t local = layout.local();
  for (auto* values : {&tokens_, &position_, &first_, &target_}) values->resize(static_cast<size_t>(batch * local));
  weight_.resize(static_cast<size_t>(batch * local));
  local_ = {Tensor::of(tokens_, {batch, local}), Tensor::of(position_, {batch, local}),
            Tensor::of(first_, {batch, local}), Tensor::of(target_, {batch, local}),
            Tensor::of(weight_, {batch, local})};
}

const MicroBatch& ShardedBatch::shard(const MicroBatch& whole) {
  // Padding stands at the end of the sequence: `first` = padded length is past every index and keeps the row
  // increasing.
  layout_.shard(local_.tokens, whole.tokens, cp_rank_, 0);
  layout_.shard(local_.position, whole.position, cp_rank_, 0);
  layout_.shard(local_.first, whole.first, cp_rank_, static_cast<double>(layout_.padded()));
  layout_.shard(local_.target, whole.target, cp_rank_, -1);
  layout_.shard(local_.target_weight, whole.target_weight, cp_rank_, 0);
  return local_;
}

}  // namespace carillon
