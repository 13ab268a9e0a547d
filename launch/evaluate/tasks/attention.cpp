// How the model attends in the first windows of the data: entropy, mass by distance, power of rotary pairs
// (2406.13282).
#include <algorithm>
#include <numeric>

#include "launch/evaluate/tasks/task.h"
#include "model/attention_statistics.h"

namespace carillon {
namespace {

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// One value per bin starting at 0, 1, 2, 4, 8 …; bins without a count are left out.
Json by_bin(const std::vector<double>& values, const char* name, const std::vector<int64_t>& counts, int64_t end) {
  Json json = Json::array();
  for (size_t bin = 0; bin < values.size(); ++bin) {
    const int64_t from = AttentionStatistics::first_of(bin);
    if (from >= end || (!counts.empty() && counts[bin] == 0)) continue;
    json.push_back(
        {{"from", from}, {"to", std::min(end, AttentionStatistics::first_of(bin + 1))}, {name, values[bin]}});
    if (!counts.empty()) json.back()["queries"] = counts[bin];
  }
  return json;
}

}  // namespace

Json run_attention(const TaskContext& context) {
  const SweepPoint& point = context.point;
  const auto wanted = point.task["windows"].get<size_t>();
  std::vector<ScoreDocument> windows;
  for_each_document(context, /*count_bytes=*/false, [&](Document& document) {
    const std::vector<uint32_t>& tokens = document.tokens;
    if (tokens.size() < 2) return;
    for (const Window& window : windows_of(static_cast<int64_t>(tokens.size()), "blocks", point.length, point.length))
      if (windows.size() < wanted && window.end - window.begin >= 2)
        windows.push_back({Json(), {tokens.begin() + window.begin, tokens.begin() + window.end}});
  });
  if (windows.empty())
    fail(ExitCode::kBadInput, "no document has two tokens, in the data of {}, give longer documents",
         point.task["name"].get<std::string>());
  AttentionStatistics statistics(
      context.scorer.grid(), context.model,
      {point.length, point.task["queries"].get<int64_t>(), point.task["first_tokens"].get<int64_t>()});
  context.scorer.set_statistics(&statistics);
  double loss = 0;
  int64_t tokens = 0;
  try {
    context.scorer.score(windows, [&](size_t, const TokenScores& scores) {
      for (const double value : scores.loss) loss += value, ++tokens;
    });
  } catch (...) {
    context.scorer.set_statistics(nullptr);
    throw;
  }
  context.scorer.set_statistics(nullptr);
  const AttentionStatistics::Result result = statistics.result();
  if (context.world.rank() != 0) return Json::object();
  std::vector<double> by_layer, first_by_layer;
  for (const auto& heads : result.entropy) by_layer.push_back(mean_of(heads));
  for (const auto& heads : result.first) first_by_layer.push_back(mean_of(heads));
  return {
      {"entropy", mean_of(by_layer)},
      {"loss", loss / static_cast<double>(tokens)},
      {"windows", windows.size()},
      {"queries", result.queries},
      {"first_tokens_mass", mean_of(first_by_layer)},
      {"entropy_by_layer", by_layer},
      {"entropy_by_head", result.entropy},
      {"first_tokens_mass_by_head", result.first},
      {"entropy_by_position", by_bin(result.entropy_by_position, "entropy", result.queries_by_position, point.length)},
      {"mass_by_distance", by_bin(result.mass_by_distance, "mass", {}, point.length)},
      {"pair_power", result.pair_power}};
}

}  // namespace carillon
