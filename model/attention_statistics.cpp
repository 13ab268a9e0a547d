#include "model/attention_statistics.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "runtime/check.h"

namespace carillon {

size_t AttentionStatistics::bin_of(int64_t number) { return std::bit_width(static_cast<uint64_t>(number)); }

AttentionStatistics::AttentionStatistics(ProcessGrid& grid, const ModelConfig& config, const Options& options)
    : grid_(grid),
      config_(config),
      options_(options),
      heads_(config.num_attention_heads),
      kv_heads_(config.num_key_value_heads),
      pairs_(config.rotary_pairs()),
      bins_(bin_of(std::max<int64_t>(1, options.length - 1)) + 1),
      layout_(LayoutKind::kContiguous, 2, 1, 1) {
  const auto layers = static_cast<size_t>(config.num_hidden_layers);
  const auto heads = static_cast<size_t>(heads_), pairs = static_cast<size_t>(pairs_);
  size_t next = 0;
  const auto part = [&](size_t numbers) { return std::exchange(next, next + numbers); };
  entropy_ = part(layers * heads);
  first_ = part(layers * heads);
  mass_ = part(bins_);
  by_position_ = part(bins_);
  query_power_ = part(layers * heads * pairs);
  key_power_ = part(layers * static_cast<size_t>(kv_heads_) * pairs);
  counts_ = part(1 + 1 + bins_);  // queries, keys, queries by position
  sums_.assign(next, 0);
}

void AttentionStatistics::begin_document(const SequenceLayout& layout, int64_t tokens) {
  CHECK(tokens <= options_.length, "longer than was said", tokens, options_.length);
  layout_ = layout;
  tokens_ = tokens;
  sampled_.clear();
  const int64_t count = std::min(options_.queries, tokens);
  for (int64_t k = 1; k <= count; ++k) sampled_.push_back(k * tokens / count - 1);
  // Counted once: every context and tensor rank of this document sees the same queries.
  if (grid_.cp_rank != 0 || grid_.tp_rank != 0) return;
  sums_[counts_] += static_cast<double>(count);
  sums_[counts_ + 1] += static_cast<double>(tokens);
  for (const int64_t index : sampled_) sums_[counts_ + 2 + bin_of(index)] += 1;
}

void AttentionStatistics::add(Backend& backend, const AttentionView& view) {
  const auto width = static_cast<size_t>(config_.head_dim), pairs = static_cast<size_t>(pairs_);
  const auto heads = static_cast<size_t>(view.heads), kv_heads = static_cast<size_t>(view.kv_heads);
  const auto local = static_cast<size_t>(layout_.local()), layer = static_cast<size_t>(view.layer);
  const auto row_width = static_cast<size_t>(view.fused.size(1));
  const std::vector<double> fused = download_as_double(backend, view.fused);
  const std::vector<double> lse = download_as_double(backend, view.lse);
  const auto first_head = static_cast<size_t>(grid_.tp_rank) * heads;
  const int64_t replicas = std::max<int64_t>(1, grid_.shape.tensor / kv_heads_);
  const auto first_kv_head = static_cast<size_t>(grid_.tp_rank / replicas) * kv_heads;
  const bool counts_keys = grid_.tp_rank % replicas == 0;
  const auto power_of = [&](const double* head, size_t pair) {
    return head[pair] * head[pair] + head[pair + pairs] * head[pair + pairs];
  };

  // Index of each local row; the sampled queries are sent to all context ranks.
  std::vector<int64_t> index(local);
  queries_.assign(sampled_.size() * heads * (width + 1), 0);
  for (size_t row = 0; row < local; ++row) {
    index[row] = layout_.index_of(grid_.cp_rank, static_cast<int64_t>(row));
    if (index[row] >= tokens_) continue;
    const double* keys = fused.data() + row * row_width + heads * width;
    if (counts_keys)
      for (size_t head = 0; head < kv_heads; ++head)
        for (size_t pair = 0; pair < pairs; ++pair)
          sums_[key_power_ + ((layer * static_cast<size_t>(kv_heads_)) + first_kv_head + head) * pairs + pair] +=
              power_of(keys + head * width, pair);
    const auto at = std::lower_bound(sampled_.begin(), sampled_.end(), index[row]);
    if (at == sampled_.end() || *at != index[row]) continue;
    const auto place = static_cast<size_t>(at - sampled_.begin());
    for (size_t head = 0; head < heads; ++head) {
      const double* from = fused.data() + row * row_width + head * width;
      double* to = queries_.data() + (place * heads + head) * (width + 1);
      std::copy(from, from + width, to);
      to[width] = lse[head * local + row];
      for (size_t pair = 0; pair < pairs; ++pair)
        sums_[query_power_ + (layer * static_cast<size_t>(heads_) + first_head + head) * pairs + pair] +=
            power_of(from, pair);
    }
  }
  grid_.cp->all_reduce(Tensor::of(queries_, {static_cast<int64_t>(queries_.size())}), Reduction::kSum);

  for (size_t place = 0; place < sampled_.size(); ++place) {
    const int64_t own = sampled_[place];
    const int64_t begin = view.window == 0 ? 0 : std::max<int64_t>(0, own - view.window + 1);
    for (size_t head = 0; head < heads; ++head) {
      const double* query = queries_.data() + (place * heads + head) * (width + 1);
      const size_t kv_head = head * kv_heads / heads;
      double entropy = 0, first = 0;
      for (size_t row = 0; row < local; ++row) {
        if (index[row] < begin || index[row] > own) continue;
        const double* key = fused.data() + row * row_width + (heads + kv_head) * width;
        double product = 0;
        for (size_t i = 0; i < width; ++i) product += query[i] * key[i];
        const double log_share = view.scale * product - query[width], share = std::exp(log_share);
        entropy -= share * log_share;
        if (index[row] < options_.first_tokens) first += share;
        sums_[mass_ + bin_of(own - index[row])] += share;
      }
      const size_t at = layer * static_cast<size_t>(heads_) + first_head + head;
      sums_[entropy_ + at] += entropy;
      sums_[first_ + at] += first;
      sums_[by_position_ + bin_of(own)] += entropy;
    }
  }
}

AttentionStatistics::Result AttentionStatistics::result() {
  grid_.world->all_reduce(Tensor::of(sums_, {static_cast<int64_t>(sums_.size())}), Reduction::kSum);
  const auto layers = static_cast<size_t>(config_.num_hidden_layers), heads = static_cast<size_t>(heads_),
             kv_heads = static_cast<size_t>(kv_heads_), pairs = static_cast<size_t>(pairs_);
  const double queries = sums_[counts_], keys = sums_[counts_ + 1];
  Result result;
  result.queries = static_cast<int64_t>(queries);
  result.pair_power.assign(pairs, 0);
  for (size_t layer = 0; layer < layers; ++layer) {
    result.entropy.emplace_back();
    result.first.emplace_back();
    const double scale = config_.layers[layer].attention.scale;
    for (size_t head = 0; head < heads; ++head) {
      const size_t at = layer * heads + head, kv_at = layer * kv_heads + head * kv_heads / heads;
      result.entropy.back().push_back(sums_[entropy_ + at] / queries);
      result.first.back().push_back(sums_[first_ + at] / queries);
      for (size_t pair = 0; pair < pairs; ++pair)
        result.pair_power[pair] += scale * scale * sums_[query_power_ + at * pairs + pair] / queries *
                                   sums_[key_power_ + kv_at * pairs + pair] / keys;
    }
  }
  double power = 0;
  for (const double value : result.pair_power) power += value;
  for (double& value : result.pair_power) value /= power;
  const double of_all = static_cast<double>(layers * heads);
  for (size_t bin = 0; bin < bins_; ++bin) {
    const double here = sums_[counts_ + 2 + bin];
    result.mass_by_distance.push_back(sums_[mass_ + bin] / (queries * of_all));
    result.entropy_by_position.push_back(here > 0 ? sums_[by_position_ + bin] / (here * of_all) : 0);
    result.queries_by_position.push_back(static_cast<int64_t>(here));
  }
  return result;
}

}  // namespace carillon
