// Deliberate mistakes in the attention kernels, for tests/runtime/cuda_attention_test.cpp alone: it compiles the
// kernels once more for each, with -DCARILLON_KERNEL_BREAK=kName, and asks that the comparison with the reference
// notices. In the program CARILLON_KERNEL_BREAK is kNone, `kBroken` is false and nothing of this
// remains.
#pragma once

#ifndef CARILLON_KERNEL_BREAK
#define CARILLON_KERNEL_BREAK kNone
#endif

namespace carillon::cuda {

enum class TestBreak {
  kNone,
  kBarrierRemoved,          // no __syncthreads between the copy of a tile and its readers
  kSecondBarrierRemoved,    // none between the readers of the values and the copy of the next (dq)
  kBufferFreedTooEarly,     // the next tile is copied before the barrier behind the last reader of its buffer
  kCopyNotWaitedFor,        // the wait for copies leaves the newest group in flight
  kMaskOffByOne,            // a row sees one key more than its interval
  kFragmentRowsSwapped,     // rows g and g + 8 of a fragment exchanged
  kAccumulatorNotRescaled,  // the output so far keeps its old reference when the maximum grows
  kLastFoldDropped,         // dK and dV leave out the last tile of queries
};

// Of internal linkage: every compiled variant of a kernel has its own.
template <TestBreak kMistake>
static constexpr bool kBroken = kMistake == TestBreak::CARILLON_KERNEL_BREAK;

}  // namespace carillon::cuda
