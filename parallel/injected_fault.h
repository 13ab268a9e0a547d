// Deliberate mistakes, for tests of the tests. Each is one that has been made in this field; a suite that still passes
// with one of them switched on proves nothing. CARILLON_TEST_BREAK=name switches one on for a whole process, a
// ScopedFault for part of a test. Always compiled in; switched off, each costs one load and one branch.
#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

enum class InjectedFault : int {
  kNone,
  kRingDropsLastGradientHop,   // ring_drops_last_gradient_hop: dK, dV of early halves never come home
  kRingDropsOuterGradientHop,  // ring_drops_outer_gradient_hop: of two levels, dK, dV never come home from other nodes
  kRingWrongChunkOrder,        // ring_wrong_chunk_order: late halves are taken for another rank's chunk
  kDocumentMaskDropped,        // document_mask_dropped: attention sees across documents and windows
  kReplicatedGradientNotSummed,  // replicated_gradient_not_summed: norms and replicated heads keep their own part over
                                 // tp
  kNormCountsReplicas,           // norm_counts_replicas: the gradient norm counts every replica
  kGradientAveraged,             // gradient_averaged: mean over dp × cp in place of the sum (divides by a local count)
  kLossWeightDropped,            // loss_weight_dropped: every target counts 1
  kWeightsNotGathered,           // weights_not_gathered: the last rank keeps old weights after an update
  kExchangeNotAwaited,           // exchange_not_awaited: a device's queue does not wait for what an exchange brings
  kCollectiveNotAwaited,         // collective_not_awaited: the same of a collective that was started
  kGradientsNotAwaited,          // gradients_not_awaited: a step begins before its gradients are reduced
  kCopyNotAwaited,               // copy_not_awaited: a device's queue does not wait for copies from and to host memory
  kReplicaBitFlipped,            // replica_bit_flipped: a bit of the last rank's copy of a weight, before a checkpoint
  kCacheRankForgotten,           // cache_rank_forgotten: generation leaves out the last context rank's keys
  kAdapterScaleDoubled,          // adapter_scale_doubled: an adapter adds twice what it should
  kAdapterDropoutByRank,         // adapter_dropout_by_rank: every rank drops other elements of an adapter's input
  kHistoriesNotCompared,         // histories_not_compared: nobody asks whether ranks made the same collectives
  kReplicasNotCompared,          // replicas_not_compared: checkpoints are written from ranks that may differ
  kShortLossesNotShared,         // short_losses_not_shared: LongCE knows the short losses of a rank's own rows only
};

// Which mistake is on; from CARILLON_TEST_BREAK at first use. Error 64 for a name there is not.
std::atomic<int>& active_fault();
inline bool injected(InjectedFault mistake) {
  return active_fault().load(std::memory_order_relaxed) == static_cast<int>(mistake);
}

// The name of the mistake that is on, empty for none; the program logs it at its start.
std::string_view name_of_active_fault();
InjectedFault injected_fault_of(std::string_view name);
std::vector<std::string> injected_fault_names();

// Switches one on until the end of the scope; for tests whose ranks are threads of this process.
class ScopedFault {
 public:
  explicit ScopedFault(InjectedFault mistake) : before_(active_fault().exchange(static_cast<int>(mistake))) {}
  ~ScopedFault() { active_fault().store(before_); }
  ScopedFault(const ScopedFault&) = delete;
  ScopedFault& operator=(const ScopedFault&) = delete;

 private:
  int before_;
};

}  // namespace carillon
