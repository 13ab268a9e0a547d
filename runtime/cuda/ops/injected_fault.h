// Deliberate mistakes in kernels, only for tests/runtime/cuda_attention_test.cpp, cuda_reductions_test.cpp and the
// tests named below. These compile the sources again for each mistake, with -DCARILLON_KERNEL_BREAK=kName, and check
// that a comparison detects it. In the program CARILLON_KERNEL_BREAK is kNone, so `kBroken` is false and generates no
// code.
#pragma once

#ifndef CARILLON_KERNEL_BREAK
#define CARILLON_KERNEL_BREAK kNone
#endif

namespace carillon::cuda {

enum class InjectedFault {
  kNone,
  kBarrierRemoved,          // no __syncthreads between the copy of a tile and its readers
  kSecondBarrierRemoved,    // none between the readers of the values and the copy of the next (dq)
  kBufferFreedTooEarly,     // the next tile is copied before the barrier after the last reader of its buffer
  kCopyNotWaitedFor,        // the wait for copies leaves the newest group in flight
  kMaskOffByOne,            // a row sees one key more than its interval
  kFragmentRowsSwapped,     // rows g and g + 8 of a fragment exchanged
  kAccumulatorNotRescaled,  // the output so far keeps its old reference when the maximum grows
  kLastFoldDropped,         // dK and dV leave out the last tile of queries
  kMergeWrongSign,          // a block's log-sum-exp enters with the other sign
  kMergeLeftOut,            // a block of a second engine is not folded into the state
  kMergeNotRescaled,        // the state keeps its old reference when a block's is larger
  kMergeWarpNotWaitedFor,   // the state's reference is overwritten before all lanes have read it
  kEmptyRowWeighs,          // rows that see nothing keep a log-sum-exp of -inf
  kFoldOverwrites,          // a block's gradients replace what the blocks before have added
  kFoldKeysLeftOut,         // a block's dk is not added
  kDeltaBarrierRemoved,     // between the copy of dout and the row sums dout · out
  kTurnNotWaitedFor,        // a row is turned back before all lanes have written their part of it
  // Of tests/runtime/cuda_reductions_test.cpp: a barrier left out
  kSumBarrierRemoved,       // between writing the warps' sums and adding them
  kSlotsBarrierRemoved,     // before the place of the warps' sums is used again
  kRunsBarrierRemoved,      // between the slices of the runs of rows
  kMaximumBarrierRemoved,   // between the warps' maxima
  kGradientBarrierRemoved,  // between reading logits and writing the gradient over them
  kSortBarrierRemoved,      // between two steps of the sort
  // Of tests/runtime/cuda_staged_uploads_test.cpp
  kStagingNotWaitedFor,  // a block of the staging memory is filled again while copies out of it are queued
};

// With internal linkage, so that every compiled variant of a kernel has its own.
template <InjectedFault kMistake>
static constexpr bool kBroken = kMistake == InjectedFault::CARILLON_KERNEL_BREAK;

}  // namespace carillon::cuda
