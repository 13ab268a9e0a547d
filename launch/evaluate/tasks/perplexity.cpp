// Perplexity of documents: whole, in blocks, or through a sliding window (Press et al., 2108.12409, as the YaRN code
// does it).
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <unordered_map>

#include "launch/evaluate/tasks/task.h"

namespace carillon {
namespace {

// Documents are handed to the scorer in batches, so that sliding windows over a book need not all stand in memory.
constexpr size_t kBatch = 64;

// Sums of a bin of positions [from, to).
struct Bin {
  int64_t from, to;
  double loss = 0;    // Σ weight · loss
  double weight = 0;  // Σ weight
  int64_t tokens = 0;
};

// `first`, then doubling from `width`: [1, 2), [2, 4) … or [0, 64), [64, 128), [128, 256) … up to `end`.
std::vector<Bin> doubling_bins(int64_t first, int64_t width, int64_t end) {
  std::vector<Bin> bins;
  for (int64_t from = first, to = first + width; from < end; from = to, to = 2 * to)
    bins.push_back({from, std::min(to, end)});
  return bins;
}

// Sixteen of one size, fewer where there are fewer positions.
std::vector<Bin> equal_bins(int64_t length) {
  const int64_t width = std::max<int64_t>(1, (length + 15) / 16);
  std::vector<Bin> bins;
  for (int64_t from = 0; from < length; from += width) bins.push_back({from, std::min(from + width, length)});
  return bins;
}

void add_to(std::vector<Bin>& bins, int64_t position, double loss, double weight) {
  const auto bin = std::upper_bound(bins.begin(), bins.end(), position,
                                    [](int64_t at, const Bin& candidate) { return at < candidate.to; });
  if (bin == bins.end() || position < bin->from) return;
  bin->loss += weight * loss;
  bin->weight += weight;
  bin->tokens += 1;
}

Json to_json(const std::vector<Bin>& bins) {
  Json json = Json::array();
  for (const Bin& bin : bins)
    if (bin.tokens > 0)
      json.push_back({{"from", bin.from}, {"to", bin.to}, {"loss", bin.loss / bin.weight}, {"tokens", bin.tokens}});
  return json;
}

struct WindowTokens {
  Window window;
  ScoreDocument document;
  std::vector<double> weights;  // of the window's tokens as targets; empty: all 1

  double weight(int64_t position) const { return weights.empty() ? 1 : weights[static_cast<size_t>(position)]; }
  int64_t bytes;  // of the source, of the scored tokens
};

// Of tokens without their text: what they decode to as a whole, in proportion to what each of them decodes to alone (a
// part of a character does not alone). None without a tokenizer.
std::vector<uint32_t> decoded_bytes(const Tokenizer* tokenizer, const std::vector<uint32_t>& tokens) {
  if (tokenizer == nullptr) return {};
  std::unordered_map<uint32_t, size_t> sizes;
  std::vector<size_t> ends;
  for (const uint32_t token : tokens) {
    const auto [size, is_new] = sizes.emplace(token, 0);
    if (is_new) size->second = tokenizer->decode(std::span(&token, 1), true).size();
    ends.push_back((ends.empty() ? 0 : ends.back()) + size->second);
  }
  const size_t whole = tokenizer->decode(tokens, true).size(),
               alone = std::max<size_t>(1, ends.empty() ? 0 : ends.back());
  std::vector<uint32_t> bytes;
  for (size_t i = 0; i < ends.size(); ++i)
    bytes.push_back(static_cast<uint32_t>(ends[i] * whole / alone - (i > 0 ? ends[i - 1] * whole / alone : 0)));
  return bytes;
}

class Perplexity {
 public:
  Perplexity(const SweepPoint& point, int64_t trained_length)
      : point_(point),
        trained_(trained_length),
        by_position_(doubling_bins(1, 1, point.length)),
        by_position_equal_(equal_bins(point.length)),
        past_training_(doubling_bins(0, 64, std::max<int64_t>(0, point.length - trained_length))) {}

  void add(const WindowTokens& item, const TokenScores& scores) {
    double sum = 0, weights = 0;
    int64_t count = 0;
    for (int64_t i = item.window.scored; i < item.window.end; ++i) {
      const int64_t position = i - item.window.begin;
      const double loss = scores.loss[static_cast<size_t>(position - 1)], weight = item.weight(position);
      if (weight == 0) continue;  // masked: no target
      sum += weight * loss;
      weights += weight;
      ++count;
      add_to(by_position_, position, loss, weight);
      add_to(by_position_equal_, position, loss, weight);
      add_to(past_training_, position - trained_, loss, weight);
    }
    if (count == 0) return;
    loss_ += sum;
    weight_ += weights;
    tokens_ += count;
    window_means_ += sum / weights;
    ++windows_;
    if (item.weights.empty()) bytes_ += item.bytes;  // of a part of the text there is no rate a byte
  }

  Json metrics() const {
    if (tokens_ == 0)
      fail(ExitCode::kBadInput, "no token can be scored, in the data of {}, give longer documents",
           point_.task["name"].get<std::string>());
    const double mean =
        point_.task["aggregation"] == "token" ? loss_ / weight_ : window_means_ / static_cast<double>(windows_);
    Json metrics = {{"loss", mean}, {"perplexity", std::exp(mean)}, {"tokens", tokens_}, {"windows", windows_}};
    if (bytes_ > 0) metrics["bits_per_byte"] = loss_ / std::log(2.0) / static_cast<double>(bytes_);
    metrics["loss_by_position"] = to_json(by_position_);
    metrics["loss_by_position_linear"] = to_json(by_position_equal_);
    // By the distance behind the length the model was made for.
    if (!past_training_.empty()) metrics["loss_past_training"] = to_json(past_training_);
    return metrics;
  }

 private:
  const SweepPoint& point_;
  int64_t trained_;
  std::vector<Bin> by_position_, by_position_equal_, past_training_;
  double loss_ = 0, weight_ = 0, window_means_ = 0;  // sums over weighted targets
  int64_t tokens_ = 0, windows_ = 0, bytes_ = 0;
};

}  // namespace

Json run_perplexity(const TaskContext& context) {
  const SweepPoint& point = context.point;
  Perplexity result(point, context.model.rope.original_max_position_embeddings);
  std::vector<WindowTokens> batch;
  const auto flush = [&] {
    std::vector<ScoreDocument> documents;
    for (const WindowTokens& item : batch) documents.push_back(item.document);
    context.scorer.score(documents, [&](size_t index, const TokenScores& scores) { result.add(batch[index], scores); });
    batch.clear();
  };
  for_each_document(context, /*count_bytes=*/true, [&](Document& whole) {
    const std::vector<uint32_t>& tokens = whole.tokens;
    const std::vector<double>& weights = whole.weights;
    std::vector<uint32_t>& bytes = whole.bytes;
    if (bytes.empty()) bytes = decoded_bytes(context.tokenizer, tokens);
    for (const Window& window :
         windows_of(static_cast<int64_t>(tokens.size()), point.task["window"], point.length, point.task["stride"])) {
      const auto scored = std::span(bytes).subspan(
          bytes.empty() ? 0 : static_cast<size_t>(window.scored),
          bytes.empty() ? 0 : static_cast<size_t>(std::max<int64_t>(0, window.end - window.scored)));
      batch.push_back({window,
                       {Json(), {tokens.begin() + window.begin, tokens.begin() + window.end}},
                       {},
                       std::accumulate(scored.begin(), scored.end(), int64_t{0})});
      if (!weights.empty()) batch.back().weights.assign(weights.begin() + window.begin, weights.begin() + window.end);
      if (batch.size() == kBatch) flush();
    }
  });
  flush();
  Json metrics;
  agree(context.world, [&] {
    if (context.world.rank() == 0) metrics = result.metrics();
  });
  return metrics;
}

std::vector<Window> windows_of(int64_t tokens, const std::string& kind, int64_t length, int64_t stride) {
  if (kind == "full") return {{0, std::min(tokens, length), 1}};
  const int64_t step = kind == "blocks" ? length : stride;
  std::vector<Window> windows;
  int64_t scored_to = 0;
  for (int64_t begin = 0; scored_to < tokens; begin += step) {
    const int64_t end = std::min(begin + length, tokens);
    windows.push_back({begin, end, std::max(scored_to, begin + 1)});
    scored_to = end;
  }
  return windows;
}

}  // namespace carillon
