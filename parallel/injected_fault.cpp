#include "parallel/injected_fault.h"

#include <fmt/ranges.h>

#include <cstdlib>
#include <utility>

#include "runtime/error.h"

namespace carillon {
namespace {

constexpr std::pair<InjectedFault, std::string_view> kNames[] = {
    {InjectedFault::kRingDropsLastGradientHop, "ring_drops_last_gradient_hop"},
    {InjectedFault::kRingDropsOuterGradientHop, "ring_drops_outer_gradient_hop"},
    {InjectedFault::kRingWrongChunkOrder, "ring_wrong_chunk_order"},
    {InjectedFault::kDocumentMaskDropped, "document_mask_dropped"},
    {InjectedFault::kReplicatedGradientNotSummed, "replicated_gradient_not_summed"},
    {InjectedFault::kNormCountsReplicas, "norm_counts_replicas"},
    {InjectedFault::kGradientAveraged, "gradient_averaged"},
    {InjectedFault::kLossWeightDropped, "loss_weight_dropped"},
    {InjectedFault::kWeightsNotGathered, "weights_not_gathered"},
    {InjectedFault::kExchangeNotAwaited, "exchange_not_awaited"},
    {InjectedFault::kCollectiveNotAwaited, "collective_not_awaited"},
    {InjectedFault::kGradientsNotAwaited, "gradients_not_awaited"},
    {InjectedFault::kCopyNotAwaited, "copy_not_awaited"},
    {InjectedFault::kReplicaBitFlipped, "replica_bit_flipped"},
    {InjectedFault::kCacheRankForgotten, "cache_rank_forgotten"},
    {InjectedFault::kAdapterScaleDoubled, "adapter_scale_doubled"},
    {InjectedFault::kAdapterDropoutByRank, "adapter_dropout_by_rank"},
    {InjectedFault::kHistoriesNotCompared, "histories_not_compared"},
    {InjectedFault::kReplicasNotCompared, "replicas_not_compared"},
    {InjectedFault::kShortLossesNotShared, "short_losses_not_shared"},
};

int from_environment() {
  const char* name = std::getenv("CARILLON_TEST_BREAK");
  return static_cast<int>(name == nullptr || *name == '\0' ? InjectedFault::kNone : injected_fault_of(name));
}

}  // namespace

std::atomic<int>& active_fault() {
  static std::atomic<int> active = from_environment();
  return active;
}

std::string_view name_of_active_fault() {
  for (const auto& [mistake, name] : kNames)
    if (injected(mistake)) return name;
  return "";
}

InjectedFault injected_fault_of(std::string_view name) {
  for (const auto& [mistake, known] : kNames)
    if (known == name) return mistake;
  fail(ExitCode::kUsage,
       "there is no test break \"{}\", in the environment variable CARILLON_TEST_BREAK, unset it or use {}", name,
       fmt::join(injected_fault_names(), " | "));
}

std::vector<std::string> injected_fault_names() {
  std::vector<std::string> names;
  for (const auto& [mistake, name] : kNames) names.emplace_back(name);
  return names;
}

}  // namespace carillon
