#include "parallel/context/key_value_cache.h"

#include <algorithm>
#include <cmath>

#include "parallel/injected_fault.h"

namespace carillon {

KeyValueCache::KeyValueCache(Backend& backend, Communicator& cp, const SequenceLayout& layout, const Shape& shape,
                             Arena& arena)
    : backend_(backend), cp_(cp), layout_(layout), shape_(shape) {
  CHECK(layout.cp() == cp.size(), "layout and communicator differ in size", layout.cp(), cp.size());
  const auto [layers, batch, heads, kv_heads, width, compute, masks] = shape;
  const DType wide = accumulate_type(compute);
  keys_values_ = arena.allocate("cache.keys_values", compute, {2 * layers, batch * layout.local() * kv_heads * width});
  key_index_ = arena.allocate("cache.index", DType::kInt64, {layout.local()});
  query_index_ = arena.allocate("cache.index", DType::kInt64, {1});
  const int64_t rows = batch * heads;
  packed_ = arena.allocate("cache.state", wide, {rows * (width + 2)});
  state_.accumulator = packed_.rows(0, rows * width).reshape({batch, 1, heads, width});
  state_.maximum = packed_.rows(rows * width, rows * (width + 1)).reshape({batch, heads, 1});
  state_.sum = packed_.rows(rows * (width + 1), rows * (width + 2)).reshape({batch, heads, 1});
  lse_ = arena.allocate("cache.state", wide, {batch, heads, 1});
  own_.resize(static_cast<size_t>(packed_.count()));
  all_.resize(own_.size() * static_cast<size_t>(cp.size()));
  if (wide != DType::kFloat64) single_.resize(own_.size());
}

Tensor KeyValueCache::part(int64_t layer, int64_t which) const {
  return keys_values_.rows(2 * layer + which, 2 * layer + which + 1)
      .reshape({shape_.batch, layout_.local(), shape_.kv_heads, shape_.head_dim});
}

void KeyValueCache::store(int64_t layer, Tensor k, Tensor v) {
  backend_.copy(part(layer, 0), k);
  backend_.copy(part(layer, 1), v);
}

void KeyValueCache::set_token(int64_t index, const std::vector<Tensor>& first) {
  CHECK(index < layout_.length(), "the cache was made for a shorter sequence", index, layout_.length());
  if (!indices_ready_) {
    std::vector<int64_t> own = layout_.indices(cp_.rank());
    backend_.upload(key_index_, Tensor::of(own, {layout_.local()}));
    indices_ready_ = true;
  }
  index_ = index;
  first_ = first;
  backend_.upload(query_index_, Tensor(&index, DType::kInt64, {1}));
}

void KeyValueCache::attend(int64_t layer, Tensor out, Tensor q, Tensor k, Tensor v, double scale, int mask,
                           Tensor sinks) {
  const SequenceLayout::Place place = layout_.place_of(index_);
  if (place.cp_rank == cp_.rank()) {
    backend_.copy(part(layer, 0).slice(1, place.local, place.local + 1), k);
    backend_.copy(part(layer, 1).slice(1, place.local, place.local + 1), v);
  }
  // A sink must be counted once in the sum over ranks.
  backend_.attention_begin(state_, cp_.rank() == 0 ? sinks : Tensor());
  backend_.attention_forward(state_, q, part(layer, 0), part(layer, 1),
                             {query_index_, first_[static_cast<size_t>(mask)], key_index_, {}}, scale);
  if (cp_.size() > 1) merge_over_ranks();
  backend_.attention_finish(out, lse_, state_);
}

// state = Σ over ranks of exp(maximum_r - maximum) · state_r. Computed on the host: only HD + 2 numbers per head.
void KeyValueCache::merge_over_ranks() {
  const auto width = static_cast<size_t>(shape_.head_dim);
  const size_t rows = own_.size() / (width + 2);
  const Tensor own = Tensor::of(own_, {packed_.count()});
  if (packed_.dtype() == DType::kFloat64) {
    backend_.download(own, packed_);
  } else {
    backend_.download(Tensor::of(single_, {packed_.count()}), packed_);
    std::copy(single_.begin(), single_.end(), own_.begin());
  }
  cp_.all_gather(Tensor::of(all_, {cp_.size() * packed_.count()}), own);
  std::fill(own_.begin(), own_.end(), 0.0);
  const auto ranks = static_cast<size_t>(injected(InjectedFault::kCacheRankForgotten) ? cp_.size() - 1 : cp_.size());
  for (size_t row = 0; row < rows; ++row) {
    double maximum = -INFINITY;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const double* theirs = all_.data() + rank * own_.size();
      if (theirs[rows * (width + 1) + row] > 0) maximum = std::max(maximum, theirs[rows * width + row]);
    }
    own_[rows * width + row] = maximum;
    for (size_t rank = 0; rank < ranks; ++rank) {
      const double* theirs = all_.data() + rank * own_.size();
      const double sum = theirs[rows * (width + 1) + row];
      if (sum == 0) continue;  // saw no key; its maximum means nothing
      const double factor = std::exp(theirs[rows * width + row] - maximum);
      own_[rows * (width + 1) + row] += factor * sum;
      for (size_t i = 0; i < width; ++i) own_[row * width + i] += factor * theirs[row * width + i];
    }
  }
  if (packed_.dtype() == DType::kFloat64) {
    backend_.upload(packed_, own);
  } else {
    std::transform(own_.begin(), own_.end(), single_.begin(), [](double value) { return static_cast<float>(value); });
    backend_.upload(packed_, Tensor::of(single_, {packed_.count()}));
  }
}

}  // namespace carillon
