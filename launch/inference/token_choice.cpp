#include "launch/inference/token_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "runtime/rng.h"

namespace carillon {

int64_t choose_token(std::span<const double> logits, const SamplingOptions& options, uint64_t prompt, uint64_t step) {
  const auto largest = std::max_element(logits.begin(), logits.end());
  if (!std::isfinite(*largest) || std::any_of(logits.begin(), logits.end(), [](double x) { return std::isnan(x); }))
    return kNoToken;
  if (options.temperature == 0) return largest - logits.begin();

  std::vector<int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(order.size()))
    order.resize(static_cast<size_t>(options.top_k));
  std::vector<double> weight;
  for (const int64_t token : order)
    weight.push_back(std::exp((logits[static_cast<size_t>(token)] - *largest) / options.temperature));
  const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
  double kept = 0;
  size_t tokens = 0;
  do kept += weight[tokens++];
  while (tokens < weight.size() && kept < options.top_p * sum);

  double at = random_uniform(options.seed, prompt, step) * kept;
  size_t chosen = 0;
  while (chosen + 1 < tokens && at >= weight[chosen]) at -= weight[chosen++];
  return order[chosen];
}

}  // namespace carillon
