// How the kernels cut their work and what scratch that takes: constants which `carillon plan` counts with as well
// (launch/plan/backend_scratch.cpp). No CUDA here.
#pragma once

#include <cstdint>

namespace carillon::cuda {

// The scratch area all ops share from the start: cuBLASLt's workspace (NVIDIA recommends 32 MiB on Hopper and later).
inline constexpr int64_t kScratchBytes = int64_t{32} << 20;
// What cuDNN's backward pass may take as workspace; its deterministic one is quadratic in the length on sm_90.
inline constexpr int64_t kMostBackwardWorkspace = int64_t{1} << 30;

inline constexpr int64_t kSquaresChunk = 32768;  // elements of a block of sum_of_squares
inline constexpr int64_t kSquaresTensors = 128;  // of a launch; their table fits its argument
inline constexpr int64_t kAdamWTensors = 60;
// Runs of rows whose sums are formed apart, at most: enough blocks for any device; their partial sums of 4 bytes
// against at least 16 rows of 2 bytes, from 8192 rows on, cost an eighth of reading dy once.
inline constexpr int64_t kRowRuns = 512;
inline constexpr int kSortedInABlock = 1024;  // keys, in shared memory

}  // namespace carillon::cuda
