// Deliberate faults, to test the tests. Each is a mistake that has been made in this field; a suite that still passes
// with one of them active proves nothing. CARILLON_TEST_BREAK=name activates one for the whole process, a ScopedFault
// for part of a test. They are always compiled in; an inactive one costs one load and one branch.
#pragma once

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

namespace carillon {

enum class InjectedFault : int {
  kNone,
  kRingDropsLastGradientHop,     // ring_drops_last_gradient_hop: dK, dV of early halves do not reach their owner
  kRingDropsOuterGradientHop,    // ring_drops_outer_gradient_hop: two levels: dK, dV do not return from other nodes
  kRingWrongChunkOrder,          // ring_wrong_chunk_order: late halves are taken for another rank's chunk
  kDocumentMaskDropped,          // document_mask_dropped: attention sees across documents and windows
  kReplicatedGradientNotSummed,  // replicated_gradient_not_summed: gradients of norms and replicated heads are not
                                 // summed over tp
  kNormCountsReplicas,           // norm_counts_replicas: the gradient norm counts every replica
  kGradientAveraged,             // gradient_averaged: mean over dp × cp instead of the sum (divides by a local count)
  kLossWeightDropped,            // loss_weight_dropped: every target counts 1
  kWeightsNotGathered,           // weights_not_gathered: the last rank keeps old weights after an update
  kExchangeNotAwaited,           // exchange_not_awaited: the device's queue does not wait for an exchange
  kCollectiveNotAwaited,         // collective_not_awaited: the device's queue does not wait for a started collective
  kGradientsNotAwaited,          // gradients_not_awaited: a step begins before its gradients are reduced
  kCopyNotAwaited,        // copy_not_awaited: the device's queue does not wait for copies from and to host memory
  kReplicaBitFlipped,     // replica_bit_flipped: flips a bit of the last rank's copy of a weight before a checkpoint
  kCacheRankForgotten,    // cache_rank_forgotten: generation leaves out the last context rank's keys
  kAdapterScaleDoubled,   // adapter_scale_doubled: an adapter adds twice its contribution
  kAdapterDropoutByRank,  // adapter_dropout_by_rank: every rank drops different elements of an adapter's input
  kHistoriesNotCompared,  // histories_not_compared: ranks do not compare which collectives they called
  kReplicasNotCompared,   // replicas_not_compared: checkpoints are written without comparing replicas
  kShortLossesNotShared,  // short_losses_not_shared: LongCE uses the short losses of a rank's own rows only
};

// The active fault; read from CARILLON_TEST_BREAK at first use. An unknown name fails with error 64.
std::atomic<int>& active_fault();
inline bool injected(InjectedFault mistake) {
  return active_fault().load(std::memory_order_relaxed) == static_cast<int>(mistake);
}

// The name of the active fault, empty if there is none; the program logs it at start.
std::string_view name_of_active_fault();
InjectedFault injected_fault_of(std::string_view name);
std::vector<std::string> injected_fault_names();

// Activates a fault until the end of the scope; for tests whose ranks are threads of this process.
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
