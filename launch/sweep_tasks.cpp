#include "launch/sweep_tasks.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "data/document_reader.h"
#include "data/tasks/posgen.h"

namespace carillon {
namespace {

// Documents are handed to the scorer in batches, so that sliding windows over a book need not all stand in memory.
constexpr size_t kBatch = 64;

// Sums of a bin of positions [from, to).
struct Bin {
  int64_t from, to;
  double loss = 0;
  int64_t tokens = 0;
};

// 1, then doubling: [1, 2), [2, 4), … up to `length`.
std::vector<Bin> logarithmic_bins(int64_t length) {
  std::vector<Bin> bins;
  for (int64_t from = 1; from < length; from *= 2) bins.push_back({from, std::min(2 * from, length)});
  return bins;
}

struct WindowTokens {
  Window window;
  ScoreDocument document;
};

class Perplexity {
 public:
  Perplexity(const SweepPoint& point, const Tokenizer* tokenizer)
      : point_(point), tokenizer_(tokenizer), bins_(logarithmic_bins(point.length)) {}

  void add(const WindowTokens& item, const TokenScores& scores) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = item.window.scored; i < item.window.end; ++i) {
      const int64_t position = i - item.window.begin;
      const double loss = scores.loss[static_cast<size_t>(position - 1)];
      sum += loss;
      ++count;
      Bin& bin = bins_[static_cast<size_t>(std::bit_width(static_cast<uint64_t>(position)) - 1)];
      bin.loss += loss;
      bin.tokens += 1;
    }
    if (count == 0) return;
    loss_ += sum;
    tokens_ += count;
    window_means_ += sum / static_cast<double>(count);
    ++windows_;
    if (tokenizer_ == nullptr) return;
    std::vector<uint32_t> ids(item.document.tokens.begin() + (item.window.scored - item.window.begin),
                              item.document.tokens.end());
    bytes_ += static_cast<int64_t>(tokenizer_->decode(ids, true).size());
  }

  Json metrics() const {
    if (tokens_ == 0)
      fail(ExitCode::kBadInput, "no token can be scored, in the data of {}, give longer documents",
           point_.task["name"].get<std::string>());
    const double mean = point_.task["aggregation"] == "token" ? loss_ / static_cast<double>(tokens_)
                                                              : window_means_ / static_cast<double>(windows_);
    Json by_position = Json::array();
    for (const Bin& bin : bins_)
      if (bin.tokens > 0)
        by_position.push_back({{"from", bin.from},
                               {"to", bin.to},
                               {"loss", bin.loss / static_cast<double>(bin.tokens)},
                               {"tokens", bin.tokens}});
    Json metrics = {{"loss", mean}, {"perplexity", std::exp(mean)}, {"tokens", tokens_}, {"windows", windows_}};
    if (bytes_ > 0) metrics["bits_per_byte"] = loss_ / std::log(2.0) / static_cast<double>(bytes_);
    metrics["loss_by_position"] = by_position;
    return metrics;
  }

 private:
  const SweepPoint& point_;
  const Tokenizer* tokenizer_;
  std::vector<Bin> bins_;
  double loss_ = 0, window_means_ = 0;
  int64_t tokens_ = 0, windows_ = 0, bytes_ = 0;
};

std::vector<std::string> data_paths(const SweepPoint& point, const SweepConfig& config) {
  std::vector<std::string> paths;
  if (point.task["data"].is_null()) {
    for (const DataSource& source : config.data.validation) paths.push_back(source.path);
    return paths;
  }
  for (const Json& source : point.task["data"]) {
    if (!source.is_object() || !source.contains("path") || !source["path"].is_string())
      fail(ExitCode::kUsage, "data of task {} is {}, in tasks, write [{{path: FILE}}]",
           point.task["name"].get<std::string>(), source.dump());
    paths.push_back(source["path"].get<std::string>());
  }
  return paths;
}

Json run_perplexity(Communicator& world, Scorer& scorer, const SweepPoint& point, const SweepConfig& config,
                    const Tokenizer* tokenizer, int64_t vocabulary) {
  std::unique_ptr<DocumentReader> reader;
  agree(world, [&] {
    reader = std::make_unique<DocumentReader>(data_paths(point, config),
                                              DocumentReaderOptions{tokenizer, std::nullopt, vocabulary});
  });
  Perplexity result(point, tokenizer);
  std::vector<WindowTokens> batch;
  const auto flush = [&] {
    std::vector<ScoreDocument> documents;
    for (const WindowTokens& item : batch) documents.push_back(item.document);
    scorer.score(documents, [&](size_t index, const TokenScores& scores) { result.add(batch[index], scores); });
    batch.clear();
  };
  Document document;
  for (bool more = true; more;) {
    agree(world, [&] { more = reader->next(document); });
    if (!more) break;
    for (const Window& window : windows_of(static_cast<int64_t>(document.tokens.size()), point.task["window"],
                                           point.length, point.task["stride"])) {
      batch.push_back(
          {window, {Json(), {document.tokens.begin() + window.begin, document.tokens.begin() + window.end}}});
      if (batch.size() == kBatch) flush();
    }
  }
  flush();
  Json metrics;
  std::string text;
  agree(world, [&] {
    if (world.rank() == 0) metrics = result.metrics();
  });
  return metrics;
}

// Correct and all, of one kind of position.
struct Share {
  int64_t right = 0, all = 0;
  void add(bool is_right) { right += is_right, ++all; }
  Json json() const { return all == 0 ? Json() : Json(static_cast<double>(right) / static_cast<double>(all)); }
};

Json run_posgen(Communicator& world, Scorer& scorer, const SweepPoint& point, int64_t vocabulary) {
  const Json& task = point.task;
  PosGenOptions options;
  std::optional<PosGen> generator;
  agree(world, [&] {
    options.task = parse_posgen_task(task["subtask"].get<std::string>());
    options.split = parse_posgen_split(task["split"].get<std::string>());
    options.prefixes = parse_posgen_prefixes(task["prefixes"].get<std::string>());
    options.modulus = task["modulus"], options.far = task["far"], options.near = task["near"];
    options.length = point.length, options.count = task["count"], options.seed = task["seed"].get<uint64_t>();
    generator.emplace(options);
    if (posgen_vocabulary(options.modulus) > vocabulary)
      fail(ExitCode::kUsage,
           "PosGen of modulus {} has {} tokens, the model {}, in tasks, use the modulus it was trained on",
           options.modulus, posgen_vocabulary(options.modulus), vocabulary);
  });
  const int64_t first = options.far + options.near, trained = task["train_length"];
  Share id, ood, id_fresh, ood_fresh;
  std::vector<Share> by_position(static_cast<size_t>(options.length));
  double loss = 0;
  int64_t tokens = 0;
  for (int64_t begin = 0; begin < options.count; begin += static_cast<int64_t>(kBatch)) {
    std::vector<ScoreDocument> documents;
    for (int64_t i = begin; i < std::min<int64_t>(begin + kBatch, options.count); ++i) {
      const std::vector<int64_t> sequence = generator->tokens(i);
      documents.push_back({Json(), {sequence.begin(), sequence.end()}});
    }
    scorer.score(documents, [&](size_t, const TokenScores& scores) {
      for (int64_t l = first; l < options.length; ++l) {
        // Sequence token l stands behind EOS at l + 1; entry l of the scores is about it.
        const bool right = scores.margin[static_cast<size_t>(l)] == 0;
        loss += scores.loss[static_cast<size_t>(l)];
        ++tokens;
        by_position[static_cast<size_t>(l)].add(right);
        const bool inside = l < trained;
        (inside ? id : ood).add(right);
        if (posgen_is_fresh(options.task, options.far, options.near, l)) (inside ? id_fresh : ood_fresh).add(right);
      }
    });
  }
  Json positions = Json::array();
  for (const Share& share : by_position) positions.push_back(share.json());
  return {{"id_accuracy", id.json()},
          {"ood_accuracy", ood.json()},
          {"id_accuracy_fresh", id_fresh.json()},
          {"ood_accuracy_fresh", ood_fresh.json()},
          {"loss", tokens == 0 ? Json() : Json(loss / static_cast<double>(tokens))},
          {"tokens", tokens},
          {"accuracy_by_position", positions}};
}

}  // namespace

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

Json run_task(Communicator& world, Scorer& scorer, const SweepPoint& point, const SweepConfig& config,
              const Tokenizer* tokenizer, int64_t vocabulary) {
  return point.task["task"] == "perplexity" ? run_perplexity(world, scorer, point, config, tokenizer, vocabulary)
                                            : run_posgen(world, scorer, point, vocabulary);
}

}  // namespace carillon
