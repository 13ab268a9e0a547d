#include "parallel/tensor/vocabulary_parallel.h"

#include <algorithm>
#include <cstring>

#include "parallel/injected_fault.h"

namespace carillon {
namespace {

constexpr int64_t kRowGranule = 8;  // elements

}  // namespace

void embedding_parallel_forward(Backend& backend, RowScatter& y, Tensor ids, Tensor table, int64_t first_row) {
  for (int64_t c = 0; c < y.shards().chunks(); ++c) {
    const Range rows = y.shards().chunk(c);
    backend.embedding_forward(y.rows(rows.begin, rows.end), ids.rows(rows.begin, rows.end), table, first_row);
    y.done(rows.end);
  }
  y.finish();
}

void embedding_parallel_backward(Backend& backend, Tensor dtable, Tensor ids, RowGather& dy, int64_t first_row) {
  backend.embedding_backward(dtable, ids, dy.all(), first_row);
}

VocabularyLoss::VocabularyLoss(Backend& backend, Communicator& tp, const RowShards& shards, int64_t channels,
                               int64_t vocabulary_local, int64_t first_row, int64_t chunk_rows, DType compute,
                               Arena& arena, bool with_margins, double logit_cap)
    : backend_(backend),
      tp_(tp),
      shards_(shards),
      rows_(shards.rows()),
      shard_(shards.shard_rows()),
      first_row_(first_row),
      most_per_rank_((std::clamp<int64_t>(chunk_rows, 1, shards.rows()) + tp.size() - 1) / tp.size()),
      chunk_per_rank_(most_per_rank_),
      compute_(compute),
      logit_cap_(logit_cap),
      channels_(channels),
      vocabulary_local_(vocabulary_local),
      with_margins_(with_margins) {
  const int64_t rows = rows_;
  const DType wide = accumulate_type(compute);
  target_ = arena.allocate("loss.targets", DType::kInt64, {rows});
  weight_ = arena.allocate("loss.targets", wide, {rows});
  place_ = arena.allocate("loss.targets", DType::kInt64, {rows});
  pick_ = arena.allocate("loss.targets", DType::kInt64, {shard_});
  unpick_ = arena.allocate("loss.targets", DType::kInt64, {shard_});

  if (arena.measuring()) return;
  for (auto* values : {&host_compact_target_, &host_place_}) values->resize(static_cast<size_t>(rows));
  for (auto* values : {&host_pick_, &host_unpick_}) values->resize(static_cast<size_t>(shard_));
  host_compact_weight_.resize(static_cast<size_t>(rows) * size_of(wide));
  active_.resize(static_cast<size_t>(tp.size()));
  for (auto& shard_rows : active_) shard_rows.reserve(static_cast<size_t>(shard_));
}

void VocabularyLoss::allocate_work(Arena& arena) {
  const DType wide = accumulate_type(compute_);
  const int64_t chunk = most_per_rank_ * tp_.size();
  picked_ = arena.allocate("loss.rows", compute_, {most_per_rank_, channels_});
  if (tp_.size() > 1) gathered_ = arena.allocate("loss.rows", compute_, {chunk, channels_});
  gradient_ = arena.allocate("loss.rows", compute_, {chunk, channels_});
  const int64_t pitch = (vocabulary_local_ + kRowGranule - 1) / kRowGranule * kRowGranule;
  logits_ = arena.allocate("loss.logits", wide, {chunk, pitch}).slice(1, 0, vocabulary_local_);
  maximum_ = arena.allocate("loss.statistics", wide, {chunk});
  sums_ = arena.allocate("loss.statistics", wide, {2 * chunk});
  loss_ = arena.allocate("loss.statistics", wide, {rows_});
  if (with_margins_) margin_ = arena.allocate("loss.statistics", wide, {rows_});
}

// Lists the rows with a target, orders them chunk by chunk, and uploads targets and weights in that order.
void VocabularyLoss::set_targets(Tensor target, Tensor target_weight) {
  const DType wide = accumulate_type(compute_);
  const size_t weight_bytes = size_of(wide);
  CHECK(target.count() == rows_ && target.packed() && target_weight.count() == rows_ && target_weight.packed() &&
            target_weight.dtype() == wide,
        "a target and a weight a row", describe(target), describe(target_weight));
  const auto host_target = target.span<int64_t>();
  const char* host_weight = static_cast<const char*>(target_weight.raw());

  int64_t longest = 0;
  for (int rank = 0; rank < tp_.size(); ++rank) {
    auto& shard_rows = active_[static_cast<size_t>(rank)];
    shard_rows.clear();
    for (int64_t row = 0; row < shard_; ++row)
      if (host_target[static_cast<size_t>(shards_.row(rank, row))] >= 0) shard_rows.push_back(row);
    longest = std::max(longest, static_cast<int64_t>(shard_rows.size()));
  }
  // Uses as few chunks as needed, all of about equal length: a last chunk of a few rows would be too thin a product to
  // run fast.
  chunks_ = (longest + most_per_rank_ - 1) / most_per_rank_;
  chunk_per_rank_ = chunks_ == 0 ? most_per_rank_ : (longest + chunks_ - 1) / chunks_;

  std::fill(host_place_.begin(), host_place_.end(), -1);
  std::fill(host_unpick_.begin(), host_unpick_.end(), -1);
  compacted_ = 0;
  for (int64_t index = 0; index < chunks_; ++index)
    for (int rank = 0; rank < tp_.size(); ++rank) {
      const auto& shard_rows = active_[static_cast<size_t>(rank)];
      const int64_t end = std::min<int64_t>((index + 1) * chunk_per_rank_, static_cast<int64_t>(shard_rows.size()));
      for (int64_t n = index * chunk_per_rank_; n < end; ++n) {
        const size_t row = static_cast<size_t>(shards_.row(rank, shard_rows[static_cast<size_t>(n)]));
        host_compact_target_[static_cast<size_t>(compacted_)] = host_target[row];
        std::memcpy(&host_compact_weight_[static_cast<size_t>(compacted_) * weight_bytes],
                    &host_weight[row * weight_bytes], weight_bytes);
        host_place_[row] = compacted_++;
        if (rank == tp_.rank()) {
          host_pick_[static_cast<size_t>(n)] = shard_rows[static_cast<size_t>(n)];
          host_unpick_[static_cast<size_t>(shard_rows[static_cast<size_t>(n)])] = n - index * chunk_per_rank_;
        }
      }
    }
  if (injected(InjectedFault::kLossWeightDropped))
    dispatch_floating(wide, [&](auto one) {
      using A = decltype(one);
      std::fill_n(reinterpret_cast<A*>(host_compact_weight_.data()), compacted_, static_cast<A>(1.0));
    });
  if (compacted_ > 0) {
    backend_.upload(target_.rows(0, compacted_), Tensor(host_compact_target_.data(), DType::kInt64, {compacted_}));
    backend_.upload(weight_.rows(0, compacted_), Tensor(host_compact_weight_.data(), wide, {compacted_}));
  }
  backend_.upload(place_, Tensor::of(host_place_, {rows_}));
  backend_.upload(pick_, Tensor::of(host_pick_, {shard_}));
  backend_.upload(unpick_, Tensor::of(host_unpick_, {shard_}));
}

VocabularyLoss::Chunk VocabularyLoss::chunk_at(int64_t index) const {
  Chunk chunk{std::vector<int64_t>(active_.size()), 0, 0};
  for (size_t rank = 0; rank < active_.size(); ++rank) {
    const int64_t available = static_cast<int64_t>(active_[rank].size());
    const int64_t begin = std::min(index * chunk_per_rank_, available);
    chunk.counts[rank] = std::min((index + 1) * chunk_per_rank_, available) - begin;
    chunk.begin += begin;
    chunk.rows += chunk.counts[rank];
  }
  return chunk;
}

Tensor VocabularyLoss::gather_chunk(const Chunk& chunk, int64_t index, Tensor x_shard) {
  const auto& mine = active_[static_cast<size_t>(tp_.rank())];
  const int64_t count = chunk.counts[static_cast<size_t>(tp_.rank())];
  const int64_t begin = index * chunk_per_rank_;
  Tensor picked = picked_.rows(0, count);
  if (count > 0) {
    // Consecutive rows need no copy.
    const int64_t first = mine[static_cast<size_t>(begin)];
    if (mine[static_cast<size_t>(begin + count - 1)] == first + count - 1)
      picked = x_shard.rows(first, first + count);
    else
      backend_.embedding_forward(picked, pick_.rows(begin, begin + count), x_shard, 0);
  }
  if (tp_.size() == 1) return picked;
  const Tensor gathered = gathered_.rows(0, chunk.rows);
  tp_.all_gather(gathered, picked, chunk.counts);
  return gathered;
}

void VocabularyLoss::run_chunk(const Chunk& chunk, Tensor x, Tensor dweight, Tensor weight, bool gradients,
                               bool accumulate) {
  const bool any_columns = weight.size(0) > 0;  // a rank may hold no rows of a tiny vocabulary
  const Tensor logits = logits_.rows(0, chunk.rows);
  const Tensor maximum = maximum_.rows(0, chunk.rows);
  const Tensor sums = sums_.rows(0, 2 * chunk.rows).reshape({2, chunk.rows});
  const Tensor target = target_.rows(chunk.begin, chunk.begin + chunk.rows);

  if (any_columns) {
    backend_.matmul(logits, x, weight, Transpose::kNo, Transpose::kYes);
    if (logit_cap_ != 0) backend_.soft_cap(logits, logit_cap_);
  }
  backend_.cross_entropy_maximum(maximum, logits);
  tp_.all_reduce(maximum, Reduction::kMax);
  backend_.cross_entropy_sums(sums, logits, maximum, target, first_row_);
  tp_.all_reduce(sums, Reduction::kSum);
  // The gradient of the logits is written over them, rounded to T, with the same row starts.
  Tensor dlogits;
  if (gradients && any_columns) {
    const int64_t width = logits.stride(0) * static_cast<int64_t>(size_of(logits.dtype()) / size_of(compute_));
    dlogits = Tensor(logits.raw(), compute_, {chunk.rows, width}).slice(1, 0, logits.size(1));
  }
  backend_.cross_entropy_finish(loss_.rows(chunk.begin, chunk.begin + chunk.rows), dlogits, logits, maximum, sums,
                                target, weight_.rows(chunk.begin, chunk.begin + chunk.rows), first_row_, logit_cap_);
  if (margin_)
    backend_.copy(margin_.rows(chunk.begin, chunk.begin + chunk.rows), sums.rows(1, 2).reshape({chunk.rows}));
  if (!gradients) return;

  const Tensor dx = gradient_.rows(0, chunk.rows);
  if (!any_columns) {
    backend_.fill(dx, 0);
    return;
  }
  backend_.matmul(dx, dlogits, weight, Transpose::kNo, Transpose::kNo);
  if (dweight) backend_.matmul(dweight, dlogits, x, Transpose::kYes, Transpose::kNo, accumulate);
}

// Writes the chunk's gradient to the rows it belongs to; the rows in between have no target and become 0. Chunk `index`
// covers the rows from its first one (chunk 0: from 0) up to the next chunk's first one (the last chunk: to the end).
void VocabularyLoss::scatter_gradient(const Chunk& chunk, int64_t index, Tensor dx_shard) {
  const auto& mine = active_[static_cast<size_t>(tp_.rank())];
  const int64_t count = chunk.counts[static_cast<size_t>(tp_.rank())];
  Tensor own = gradient_.rows(0, chunk.rows);
  if (tp_.size() > 1) {
    own = picked_.rows(0, count);
    tp_.reduce_scatter(own, gradient_.rows(0, chunk.rows), chunk.counts);
  }
  const int64_t available = static_cast<int64_t>(mine.size());
  const int64_t begin_at = index * chunk_per_rank_;
  if (begin_at >= available) return;
  const int64_t end_at = begin_at + chunk_per_rank_;
  const int64_t begin = index == 0 ? 0 : mine[static_cast<size_t>(begin_at)];
  const int64_t end = end_at >= available ? shard_ : mine[static_cast<size_t>(end_at)];
  backend_.embedding_forward(dx_shard.rows(begin, end), unpick_.rows(begin, end), own, 0);
}

void VocabularyLoss::run(Tensor loss, Tensor dx_shard, Tensor dweight, Tensor x_shard, Tensor weight, bool accumulate) {
  CHECK(x_shard.size(0) == shard_ && loss.count() == rows_, "rows differ", x_shard.size(0), loss.count());
  const bool gradients = static_cast<bool>(dx_shard);
  CHECK(gradients || !dweight, "a gradient by the weight comes with that by x");
  for (int64_t index = 0; index < chunks_; ++index) {
    const Chunk chunk = chunk_at(index);
    const Tensor x = gather_chunk(chunk, index, x_shard);
    run_chunk(chunk, x, dweight, weight, gradients, accumulate);
    accumulate = true;
    if (gradients) scatter_gradient(chunk, index, dx_shard);
  }
  if (dweight && !accumulate) backend_.fill(dweight, 0);  // no row had a target
  if (gradients && active_[static_cast<size_t>(tp_.rank())].empty()) backend_.fill(dx_shard, 0);
  spread(loss, loss_);
}

void VocabularyLoss::margins(Tensor margin) {
  CHECK(margin_ && margin.count() == rows_, "this loss was built without margins");
  spread(margin, margin_);
}

// Spreads compacted rows to where they belong; rows without a target become 0.
void VocabularyLoss::spread(Tensor rows, Tensor compacted) {
  if (compacted_ == 0)
    backend_.fill(rows, 0);
  else
    backend_.embedding_forward(rows.reshape({rows_, 1}), place_, compacted.rows(0, compacted_).reshape({compacted_, 1}),
                               0);
}

}  // namespace carillon
