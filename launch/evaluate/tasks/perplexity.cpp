// Perplexity of documents: whole, in blocks, or with a sliding window (Press et al., 2108.12409, as in the YaRN code).
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <unordered_map>

#include "data/checkpoint/tensor_hash.h"
#include "launch/evaluate/tasks/task.h"

namespace carillon {
namespace {

// Documents are passed to the scorer in batches, so that the sliding windows over a book need not all be in memory.
constexpr size_t kBatch = 64;

// Sums over a bin of positions [from, to).
struct Bin {
  int64_t from, to;
  double loss = 0;    // Σ weight · loss
  double weight = 0;  // Σ weight
  int64_t tokens = 0;
};

// Bins from `first`, doubling from `width`: [1, 2), [2, 4) … or [0, 64), [64, 128), [128, 256) … up to `end`.
std::vector<Bin> doubling_bins(int64_t first, int64_t width, int64_t end) {
  std::vector<Bin> bins;
  for (int64_t from = first, to = first + width; from < end; from = to, to = 2 * to)
    bins.push_back({from, std::min(to, end)});
  return bins;
}

// Sixteen bins of equal width; fewer if there are fewer positions.
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
  int64_t bytes;  // of the source, for the scored tokens
  size_t number;  // index of the document in the data
};

// Estimates the bytes of tokens whose text is not known: distributes the bytes of their joint decoding in proportion to
// each token's own (a part of a character does not decode alone). Empty without a tokenizer.
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

std::optional<int64_t> bin_of(const std::vector<Bin>& bins, int64_t position) {
  for (size_t i = 0; i < bins.size(); ++i)
    if (bins[i].from <= position && position < bins[i].to) return static_cast<int64_t>(i);
  return std::nullopt;
}

UnitLosses::Bins edges_of(const std::vector<Bin>& bins) {
  UnitLosses::Bins edges;
  for (const Bin& bin : bins) edges.emplace_back(bin.from, bin.to);
  return edges;
}

// Collects what was scored of the documents into UnitLosses.
class UnitCollector {
 public:
  UnitCollector(const std::vector<Bin>& by_position, const std::vector<Bin>& past_training, int64_t trained)
      : by_position_(by_position), past_training_(past_training), trained_(trained) {}

  void begin_window(const WindowTokens& item) {
    if (documents_.empty() || documents_.back().number != item.number) {
      drop_unscored();
      documents_.push_back({item.number, "", {}});
    }
    // Everything that decides which tokens are scored and with what weight.
    Document& document = documents_.back();
    std::string what = document.identity;
    const auto put = [&](const void* data, size_t size) { what.append(static_cast<const char*>(data), size); };
    put(&item.window, sizeof item.window);
    put(item.document.tokens.data(), item.document.tokens.size() * sizeof item.document.tokens[0]);
    put(item.weights.data(), item.weights.size() * sizeof(double));
    document.identity = hash_of_text(what);
  }

  void add(int64_t position, double loss, double weight) {
    Document& document = documents_.back();
    const auto by_position = bin_of(by_position_, position),
               past_training = bin_of(past_training_, position - trained_);
    const auto add_to_unit = [&](LossUnit& unit) {
      unit.all.add(loss, weight);
      if (by_position) unit.by_position[*by_position].add(loss, weight);
      if (past_training) unit.past_training[*past_training].add(loss, weight);
    };
    add_to_unit(document.whole);
    if (documents_.size() > 1) {
      pieces_.clear();  // needed for a single document only
      return;
    }
    if (pieces_.empty() || pieces_.back().all.tokens == UnitLosses::kPieceTokens) pieces_.emplace_back();
    add_to_unit(pieces_.back());
  }

  UnitLosses take(const Tokenizer* tokenizer) {
    UnitLosses losses;
    losses.tokenizer = tokenizer == nullptr ? "" : format_hash(tokenizer->hash());
    losses.trained_length = trained_;
    losses.position_bins = edges_of(by_position_);
    losses.past_bins = edges_of(past_training_);
    drop_unscored();
    for (Document& document : documents_) {
      losses.documents.push_back(document.identity);
      losses.units.push_back(std::move(document.whole));
    }
    if (documents_.size() == 1) losses.units = std::move(pieces_);
    return losses;
  }

 private:
  struct Document {
    size_t number;
    std::string identity;  // hash of its windows so far
    LossUnit whole;
  };

  // Drops the last document if none of its tokens was scored.
  void drop_unscored() {
    if (!documents_.empty() && documents_.back().whole.all.tokens == 0) documents_.pop_back();
  }

  const std::vector<Bin>&by_position_, &past_training_;
  int64_t trained_;
  std::vector<Document> documents_;
  std::vector<LossUnit> pieces_;  // of the first document, while it is the only one
};

class Perplexity {
 public:
  Perplexity(const SweepPoint& point, int64_t trained_length)
      : point_(point),
        trained_(trained_length),
        by_position_(doubling_bins(1, 1, point.length)),
        by_position_equal_(equal_bins(point.length)),
        past_training_(doubling_bins(0, 64, std::max<int64_t>(0, point.length - trained_length))),
        units_(by_position_, past_training_, trained_length) {}

  void add(const WindowTokens& item, const TokenScores& scores) {
    double sum = 0, weights = 0;
    int64_t count = 0;
    units_.begin_window(item);
    for (int64_t i = item.window.scored; i < item.window.end; ++i) {
      const int64_t position = i - item.window.begin;
      const double loss = scores.loss[static_cast<size_t>(position - 1)], weight = item.weight(position);
      if (weight == 0) continue;  // masked
      sum += weight * loss;
      weights += weight;
      ++count;
      add_to(by_position_, position, loss, weight);
      add_to(by_position_equal_, position, loss, weight);
      add_to(past_training_, position - trained_, loss, weight);
      units_.add(position, loss, weight);
    }
    if (count == 0) return;
    loss_ += sum;
    weight_ += weights;
    tokens_ += count;
    window_means_ += sum / weights;
    ++windows_;
    if (item.weights.empty()) bytes_ += item.bytes;  // the bytes of a partly masked text give no rate per byte
  }

  UnitLosses units(const Tokenizer* tokenizer) { return units_.take(tokenizer); }

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
    // By the distance beyond the length the model was trained for.
    if (!past_training_.empty()) metrics["loss_past_training"] = to_json(past_training_);
    return metrics;
  }

 private:
  const SweepPoint& point_;
  int64_t trained_;
  std::vector<Bin> by_position_, by_position_equal_, past_training_;
  UnitCollector units_;
  double loss_ = 0, weight_ = 0, window_means_ = 0;  // sums over weighted targets
  int64_t tokens_ = 0, windows_ = 0, bytes_ = 0;
};

}  // namespace

Json run_perplexity(const TaskContext& context) {
  const SweepPoint& point = context.point;
  Perplexity result(point, context.model.rope.original_max_position_embeddings);
  std::vector<WindowTokens> batch;
  size_t number = 0;
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
                       std::accumulate(scored.begin(), scored.end(), int64_t{0}),
                       number});
      if (!weights.empty()) batch.back().weights.assign(weights.begin() + window.begin, weights.begin() + window.end);
      if (batch.size() == kBatch) flush();
    }
    ++number;
  });
  flush();
  Json metrics;
  agree(context.world, [&] {
    if (context.world.rank() != 0) return;
    metrics = result.metrics();
    if (context.units != nullptr) *context.units = result.units(context.tokenizer);
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
