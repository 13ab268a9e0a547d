#include "parallel/test_break.h"

#include <fmt/ranges.h>

#include <cstdlib>
#include <utility>

#include "runtime/error.h"

namespace carillon {
namespace {

constexpr std::pair<TestBreak, std::string_view> kNames[] = {
    {TestBreak::kRingDropsLastGradientHop, "ring_drops_last_gradient_hop"},
    {TestBreak::kRingDropsOuterGradientHop, "ring_drops_outer_gradient_hop"},
    {TestBreak::kRingWrongChunkOrder, "ring_wrong_chunk_order"},
    {TestBreak::kDocumentMaskDropped, "document_mask_dropped"},
    {TestBreak::kReplicatedGradientNotSummed, "replicated_gradient_not_summed"},
    {TestBreak::kNormCountsReplicas, "norm_counts_replicas"},
    {TestBreak::kGradientAveraged, "gradient_averaged"},
    {TestBreak::kLossWeightDropped, "loss_weight_dropped"},
    {TestBreak::kWeightsNotGathered, "weights_not_gathered"},
    {TestBreak::kExchangeNotAwaited, "exchange_not_awaited"},
    {TestBreak::kCollectiveNotAwaited, "collective_not_awaited"},
    {TestBreak::kGradientsNotAwaited, "gradients_not_awaited"},
    {TestBreak::kCopyNotAwaited, "copy_not_awaited"},
    {TestBreak::kCacheRankForgotten, "cache_rank_forgotten"},
};

int from_environment() {
  const char* name = std::getenv("CARILLON_TEST_BREAK");
  return static_cast<int>(name == nullptr || *name == '\0' ? TestBreak::kNone : test_break_of(name));
}

}  // namespace

std::atomic<int>& active_test_break() {
  static std::atomic<int> active = from_environment();
  return active;
}

std::string_view name_of_active_test_break() {
  for (const auto& [mistake, name] : kNames)
    if (broken(mistake)) return name;
  return "";
}

TestBreak test_break_of(std::string_view name) {
  for (const auto& [mistake, known] : kNames)
    if (known == name) return mistake;
  fail(ExitCode::kUsage,
       "there is no test break \"{}\", in the environment variable CARILLON_TEST_BREAK, unset it or take {}", name,
       fmt::join(test_break_names(), " | "));
}

std::vector<std::string> test_break_names() {
  std::vector<std::string> names;
  for (const auto& [mistake, name] : kNames) names.emplace_back(name);
  return names;
}

}  // namespace carillon
