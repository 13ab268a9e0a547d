#include "launch/inference/scorer.h"

#include <algorithm>
#include <bit>

namespace carillon {
namespace {

NetworkOptions options_for(DType compute, LayoutKind layout, int64_t length) {
  NetworkOptions options;
  options.compute = compute;
  options.layout = layout;
  options.sequence_length = length;
  options.training = false;
  return options;
}

// A document in a sequence of `length` rows; the rest is padding.
HostBatch batch_of(const std::vector<int32_t>& document, int64_t length) {
  HostBatch batch(1, length);
  for (size_t i = 0; i < document.size(); ++i) {
    batch.tokens[i] = document[i];
    batch.position[i] = static_cast<int64_t>(i);
    batch.first[i] = 0;
    batch.reach[i] = static_cast<int64_t>(document.size());
    if (i + 1 == document.size()) break;
    batch.target[i] = document[i + 1];
    batch.target_weight[i] = 1;
  }
  return batch;
}

}  // namespace

int64_t padded_score_length(int64_t tokens, int cp) {
  const int64_t step = std::max<int64_t>(16, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(tokens))) / 8);
  return std::max<int64_t>((tokens + step - 1) / step * step, 2 * cp);
}

Scorer::Scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
               int64_t longest)
    : backend_(backend),
      grid_(grid),
      config_(config),
      rope_(config),
      network_(backend, grid, config, options_for(compute, layout, padded_score_length(longest, grid.shape.context))) {}

Scorer::Scorer(Backend& backend, ProcessGrid& grid, const ModelConfig& config, DType compute, LayoutKind layout,
               int64_t longest, Parameters& shared)
    : backend_(backend),
      grid_(grid),
      config_(config),
      rope_(config),
      network_(backend, grid, config, options_for(compute, layout, padded_score_length(longest, grid.shape.context)),
               shared) {}

void Scorer::prepare(int64_t tokens, int64_t reach) {
  const int64_t length = padded_score_length(tokens, grid_.shape.context);
  const bool other_length = length != network_.layout().length();
  network_.set_sequence_length(length);
  // Types that depend on the length use the document's own, not the padded one.
  const int64_t rotation_for = rope_.follows_length() ? reach : 0;
  if (!other_length && rotation_for == rotation_for_) return;
  network_.transformer().set_rotation(rope_, reach);
  rotation_for_ = rotation_for;
}

TokenScores Scorer::score_own(const ScoreDocument& document) {
  const auto tokens = static_cast<int64_t>(document.tokens.size());
  prepare(tokens, tokens);
  const SequenceLayout& layout = network_.layout();
  HostBatch whole = batch_of(document.tokens, layout.length());
  ShardedBatch sharded(layout, grid_.cp_rank, 1);
  if (statistics_ != nullptr) {
    statistics_->begin_document(layout, static_cast<int64_t>(document.tokens.size()));
    network_.transformer().set_probe([this](const AttentionView& view) { statistics_->add(backend_, view); });
  }
  network_.transformer().forward(sharded.shard(whole.view()));
  network_.transformer().set_probe({});

  const size_t scored = document.tokens.size() - 1;
  return {in_sequence_order(network_.transformer().losses(), scored),
          in_sequence_order(network_.transformer().margins(), scored)};
}

// Returns the first `count` of the rows of all context ranks, in sequence order.
std::vector<double> Scorer::in_sequence_order(Tensor rows, size_t count) {
  const SequenceLayout& layout = network_.layout();
  std::vector<double> local = download_as_double(backend_, rows), gathered(static_cast<size_t>(layout.padded()));
  grid_.cp->all_gather(Tensor::of(gathered, {layout.padded()}), Tensor::of(local, {layout.local()}));
  std::vector<double> values(count);
  for (int rank = 0; rank < layout.cp(); ++rank)
    for (int64_t i = 0; i < layout.local(); ++i) {
      const int64_t index = layout.index_of(rank, i);
      if (index < static_cast<int64_t>(count))
        values[static_cast<size_t>(index)] = gathered[static_cast<size_t>(rank * layout.local() + i)];
    }
  return values;
}

void Scorer::set_rope(const ModelRope& rope) {
  require_same_pairs(rope, config_);
  rope_ = rope;
  rotation_for_ = -1;
}

void Scorer::score(const std::vector<ScoreDocument>& documents, const Done& done) {
  const size_t ranks = static_cast<size_t>(grid_.shape.data);
  for (size_t round = 0; round < documents.size(); round += ranks) {
    const size_t mine = round + static_cast<size_t>(grid_.dp_rank);
    // A document's losses followed by its margins.
    std::vector<double> own;
    if (mine < documents.size()) {
      const TokenScores scores = score_own(documents[mine]);
      own = scores.loss;
      own.insert(own.end(), scores.margin.begin(), scores.margin.end());
    }
    std::vector<int64_t> counts;
    int64_t total = 0;
    for (size_t index = round; index < round + ranks; ++index) {
      counts.push_back(index < documents.size() ? 2 * (static_cast<int64_t>(documents[index].tokens.size()) - 1) : 0);
      total += counts.back();
    }
    std::vector<double> all(static_cast<size_t>(total));
    grid_.dp->all_gather(Tensor::of(all, {total}), Tensor::of(own, {static_cast<int64_t>(own.size())}), counts);
    if (grid_.world->rank() != 0) continue;
    auto begin = all.begin();
    for (size_t i = 0; i < ranks && round + i < documents.size(); ++i) {
      const auto middle = begin + counts[i] / 2;
      done(round + i, {{begin, middle}, {middle, begin + counts[i]}});
      begin += counts[i];
    }
  }
}

}  // namespace carillon
