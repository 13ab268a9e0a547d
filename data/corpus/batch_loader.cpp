#include "data/corpus/batch_loader.h"

#include <algorithm>
#include <numeric>

#include "runtime/rng.h"

namespace carillon {

BatchLoader::BatchLoader(const TokenStore& store, const BatchLoaderOptions& options)
    : store_(store),
      options_(options),
      packing_(pack(store.document_begin(), options.packing, options.sequence_length)),
      batch_(options.micro_batch, options.sequence_length) {
  CHECK(packing_.sequences() > 0 && packing_.sequences() < int64_t{UINT32_MAX}, "sequences are counted in 32 bits",
        packing_.sequences());
}

// Fisher and Yates with counter-based numbers: a pure function of seed and epoch.
const std::vector<uint32_t>& BatchLoader::order_of(int64_t epoch) {
  const auto found = orders_.find(epoch);
  if (found != orders_.end()) return found->second;
  if (orders_.size() > 1) orders_.erase(orders_.begin());
  std::vector<uint32_t>& order = orders_[epoch];
  order.resize(static_cast<size_t>(sequences()));
  std::iota(order.begin(), order.end(), 0u);
  const uint64_t stream = stream_of("data.shuffle") + static_cast<uint64_t>(epoch);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i, options_.seed, stream, i)]);
  return order;
}

int64_t BatchLoader::sequence_at(int64_t index) {
  const int64_t epoch = index / sequences(), place = index % sequences();
  return options_.shuffle ? int64_t{order_of(epoch)[static_cast<size_t>(place)]} : place;
}

MicroBatch BatchLoader::get(int64_t taken, int64_t micro) {
  CHECK(taken >= 0, "sequences taken before", taken);
  CHECK(0 <= micro && micro < options_.accumulation, "no such micro-step", micro, options_.accumulation);
  const int64_t batch = options_.micro_batch;
  for (int64_t row = 0; row < batch; ++row) {
    const int64_t index = taken + (micro * batch + row) * options_.dp_size + options_.dp_rank;
    batch_.sequence[static_cast<size_t>(row)] = index;
    fill(row, sequence_at(index));
  }
  return batch_.view();
}

void BatchLoader::fill(int64_t row, int64_t sequence) {
  const int64_t length = options_.sequence_length;
  const size_t base = static_cast<size_t>(row * length);
  const std::span<const uint32_t> tokens = store_.tokens();
  const std::span<const double> weights = store_.weights();
  int64_t at = 0;
  for (const Segment& segment : packing_.sequence(sequence)) {
    store_.verify(segment.begin, segment.length);
    const int64_t begin = at;
    for (int64_t i = 0; i < segment.length; ++i, ++at) {
      const size_t here = base + static_cast<size_t>(at), from = static_cast<size_t>(segment.begin + i);
      batch_.tokens[here] = tokens[from];
      batch_.position[here] = i;
      batch_.first[here] = begin;
      const bool last = i + 1 == segment.length;
      batch_.target_weight[here] = last ? 0 : weights.empty() ? 1 : weights[from + 1];
      batch_.target[here] = batch_.target_weight[here] != 0 ? int64_t{tokens[from + 1]} : -1;
    }
  }
  for (; at < length; ++at) batch_.pad(base + static_cast<size_t>(at));
}

}  // namespace carillon
