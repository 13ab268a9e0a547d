// LongPPL (Fang et al., 2410.23771): perplexity of the tokens that an evaluator can only predict from far away.
#include <algorithm>
#include <cmath>

#include "launch/evaluate/tasks/task.h"

namespace carillon {
namespace {

// Returns the task's documents, cut to the point's length (the evaluator decides which tokens count; masks are not
// used). Documents of one token have nothing to score but are kept, so that indices agree.
std::vector<ScoreDocument> cut_documents(const TaskContext& context) {
  std::vector<ScoreDocument> documents;
  for_each_document(context, /*count_bytes=*/false, [&](Document& document) {
    std::vector<uint32_t>& tokens = document.tokens;
    const auto kept = std::min<size_t>(tokens.size(), static_cast<size_t>(context.point.length));
    documents.push_back({Json(), {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept)}});
  });
  return documents;
}

}  // namespace

KeyTokens select_key_tokens(const TaskContext& evaluator) {
  const Json& task = evaluator.point.task;
  const double alpha = task["alpha"], beta = task["beta"];
  const int64_t shortest = task["short_length"], stride = task["stride"];
  const std::vector<ScoreDocument> documents = cut_documents(evaluator);
  KeyTokens keys(documents.size());
  std::vector<std::vector<double>> whole(documents.size());
  evaluator.scorer.score(documents, [&](size_t index, const TokenScores& scores) { whole[index] = scores.loss; });
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::vector<int32_t>& tokens = documents[d].tokens;
    const auto count = static_cast<int64_t>(tokens.size());
    // Window w begins at w·stride and scores tokens shortest + w·stride … of the document, at most `stride` of them.
    std::vector<ScoreDocument> windows;
    for (int64_t begin = 0; begin + shortest < count; begin += stride)
      windows.push_back(
          {Json(), {tokens.begin() + begin, tokens.begin() + std::min(begin + shortest + stride, count)}});
    evaluator.scorer.score(windows, [&](size_t w, const TokenScores& scores) {
      const int64_t begin = static_cast<int64_t>(w) * stride;
      for (int64_t i = begin + shortest; i < std::min(begin + shortest + stride, count); ++i) {
        const double with_all = -whole[d][static_cast<size_t>(i - 1)];
        const double with_few = -scores.loss[static_cast<size_t>(i - begin - 1)];
        if (with_all - with_few > alpha && with_all > beta) keys[d].push_back(i);
      }
    });
  }
  return keys;
}

Json run_long_perplexity(const TaskContext& context) {
  if (context.key_tokens == nullptr)
    fail(ExitCode::kUsage,
         "longppl needs its evaluator in memory, in eval.tasks, run it in a sweep over the checkpoints");
  const std::vector<ScoreDocument> documents = cut_documents(context);
  double key_loss = 0, loss = 0;
  int64_t keys = 0, tokens = 0;
  context.scorer.score(documents, [&](size_t index, const TokenScores& scores) {
    for (const double value : scores.loss) loss += value, ++tokens;
    for (const int64_t key : (*context.key_tokens)[index])
      key_loss += scores.loss[static_cast<size_t>(key - 1)], ++keys;
  });
  Json metrics = {{"longppl", nullptr}, {"loss", nullptr}, {"key_tokens", keys}, {"tokens", tokens}};
  if (keys > 0) metrics["loss"] = key_loss / static_cast<double>(keys);
  if (keys > 0) metrics["longppl"] = std::exp(key_loss / static_cast<double>(keys));
  if (tokens > 0) metrics["perplexity"] = std::exp(loss / static_cast<double>(tokens));
  return metrics;
}

}  // namespace carillon
