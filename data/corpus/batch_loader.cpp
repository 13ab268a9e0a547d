#include "data/corpus/batch_loader.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/check.h"
#include "runtime/rng.h"

namespace carillon {

BatchLoader::BatchLoader(const Corpus& corpus, const BatchLoaderOptions& options)
    : BatchLoader(
          [&] {
            std::vector<Named> sources;
            for (const CorpusSource& source : corpus.sources)
              sources.push_back({&source.tokens, source.name, source.weight});
            return sources;
          }(),
          corpus.by_weight, options) {}

BatchLoader::BatchLoader(const TokenStore& store, const BatchLoaderOptions& options)
    : BatchLoader({{&store, "", 1}}, /*by_weight=*/false, options) {}

BatchLoader::BatchLoader(const std::vector<Named>& sources, bool by_weight, const BatchLoaderOptions& options)
    : options_(options), source_targets_(sources.size()), batch_(options.micro_batch, options.sequence_length) {
  const auto add_stream = [&](const std::string& name, std::string_view shuffle, const std::vector<int64_t>& begin) {
    streams_.push_back({name, stream_of(shuffle), pack(begin, options_.packing, options_.sequence_length), {}});
    const int64_t count = streams_.back().packing.sequences();
    CHECK(count > 0 && count < int64_t{UINT32_MAX}, "sequences are counted in 32 bits", count);
  };
  std::vector<int64_t> all{0}, begin;
  std::vector<double> weights;
  for (const Named& source : sources) {
    const int64_t first = all.back();
    sources_.push_back({source.store, first});
    begin = {first};
    for (const int64_t place : source.store->document_begin().subspan(1)) begin.push_back(first + place);
    all.insert(all.end(), begin.begin() + 1, begin.end());
    if (!by_weight) continue;
    // Keyed by the source's name, so that its order does not depend on the other sources.
    add_stream(source.name, "data.shuffle " + source.name, begin);
    weights.push_back(source.weight);
    all = {all.back()};
  }
  if (by_weight)
    mixture_.emplace(weights, "data.train");
  else
    add_stream("", "data.shuffle", all);
}

int64_t BatchLoader::sequences() const {
  int64_t sum = 0;
  for (const Stream& stream : streams_) sum += stream.packing.sequences();
  return sum;
}

std::string BatchLoader::describe() const {
  if (!mixture_) return carillon::describe(streams_.front().packing);
  std::string text;
  for (size_t i = 0; i < streams_.size(); ++i)
    text += fmt::format("{}{} ({:.3g} of the sequences): {}", i > 0 ? "; " : "", streams_[i].name,
                        static_cast<double>(mixture_->shares()[i]) / static_cast<double>(mixture_->period()),
                        carillon::describe(streams_[i].packing));
  return text;
}

// Fisher-Yates shuffle with counter-based numbers: a pure function of seed, stream and epoch.
const std::vector<uint32_t>& BatchLoader::order_of(Stream& stream, int64_t epoch) const {
  const auto found = stream.orders.find(epoch);
  if (found != stream.orders.end()) return found->second;
  if (stream.orders.size() > 1) stream.orders.erase(stream.orders.begin());
  std::vector<uint32_t>& order = stream.orders[epoch];
  order.resize(static_cast<size_t>(stream.packing.sequences()));
  std::iota(order.begin(), order.end(), 0u);
  const uint64_t numbers = stream.shuffle + static_cast<uint64_t>(epoch);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i, options_.seed, numbers, i)]);
  return order;
}

std::span<const Segment> BatchLoader::segments_at(int64_t index) {
  size_t number = 0;
  if (mixture_) {
    const Mixture::Draw draw = mixture_->at(index);
    number = draw.source;
    index = draw.count;
  }
  Stream& stream = streams_[number];
  const int64_t count = stream.packing.sequences(), epoch = index / count, place = index % count;
  return stream.packing.sequence(options_.shuffle ? int64_t{order_of(stream, epoch)[static_cast<size_t>(place)]}
                                                  : place);
}

MicroBatch BatchLoader::get(int64_t taken, int64_t micro) {
  CHECK(taken >= 0, "sequences taken before", taken);
  CHECK(0 <= micro && micro < options_.accumulation, "no such micro-step", micro, options_.accumulation);
  const int64_t batch = options_.micro_batch;
  for (int64_t row = 0; row < batch; ++row) {
    const int64_t index = taken + (micro * batch + row) * options_.dp_size + options_.dp_rank;
    batch_.sequence[static_cast<size_t>(row)] = index;
    fill(row, index, segments_at(index));
  }
  return batch_.view();
}

std::vector<int64_t> BatchLoader::take_source_targets() {
  return std::exchange(source_targets_, std::vector<int64_t>(sources_.size()));
}

void BatchLoader::fill(int64_t row, int64_t index, std::span<const Segment> segments) {
  const int64_t length = options_.sequence_length;
  const size_t base = static_cast<size_t>(row * length);
  int64_t at = 0, document = 0;
  for (const Segment& segment : segments) {
    const auto behind =
        std::upper_bound(sources_.begin(), sources_.end(), segment.begin,
                         [](int64_t token, const Source& source) { return token < source.first_token; });
    const auto number = static_cast<size_t>(behind - sources_.begin() - 1);
    const TokenStore& store = *sources_[number].store;
    const int64_t first = segment.begin - sources_[number].first_token;
    const std::span<const uint32_t> tokens = store.tokens();
    const std::span<const double> weights = store.weights();
    store.verify(first, segment.length);
    const int64_t begin = at;
    const auto count = static_cast<size_t>(segment.length);
    draw_positions(std::span(batch_.position).subspan(base + static_cast<size_t>(at), count),
                   weights.empty() ? weights : weights.subspan(static_cast<size_t>(first), count), options_.positions,
                   {options_.seed, index, document++});
    const int64_t reach = batch_.position[base + static_cast<size_t>(at + segment.length - 1)] + 1;
    for (int64_t i = 0; i < segment.length; ++i, ++at) {
      const size_t here = base + static_cast<size_t>(at), from = static_cast<size_t>(first + i);
      batch_.tokens[here] = tokens[from];
      batch_.first[here] = begin;
      batch_.reach[here] = reach;
      const bool last = i + 1 == segment.length;
      batch_.target_weight[here] = last ? 0 : weights.empty() ? 1 : weights[from + 1];
      batch_.target[here] = batch_.target_weight[here] != 0 ? int64_t{tokens[from + 1]} : -1;
      source_targets_[number] += batch_.target[here] >= 0;
    }
  }
  for (; at < length; ++at) batch_.pad(base + static_cast<size_t>(at));
}

}  // namespace carillon
