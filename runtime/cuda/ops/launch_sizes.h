// How the kernels divide their work, how many launches that takes and how much of the scratch area. Used by the ops of
// this folder and by `carillon plan` (launch/plan/counting_backend.cpp, runtime/scratch.cpp). Does not use CUDA.
#pragma once

#include <cstdint>

namespace carillon::cuda {

// The scratch area all ops share from the start: cuBLASLt's workspace (NVIDIA recommends 32 MiB on Hopper and later).
inline constexpr int64_t kScratchBytes = int64_t{32} << 20;

constexpr int64_t parts(int64_t value, int64_t granule) { return (value + granule - 1) / granule; }
constexpr int64_t round_up(int64_t value, int64_t granule) { return parts(value, granule) * granule; }

inline constexpr int64_t kSquaresChunk = 32768;  // elements per block of sum_of_squares
inline constexpr int64_t kSquaresTensors = 128;  // per launch; their table fits into the kernel's argument
// Number of doubles of scratch for a tensor; its result needs one more.
constexpr int64_t sum_of_squares_partials(int64_t count) { return parts(count, kSquaresChunk); }
constexpr int64_t sum_of_squares_launches(int64_t tensors) { return 2 * parts(tensors, kSquaresTensors); }

inline constexpr int64_t kAdamWTensors = 60;
constexpr int64_t adamw_launches(int64_t tensors) { return parts(tensors, kAdamWTensors); }

// Sums over rows are formed per run of rows, then over the runs; the number of runs depends only on the number of rows.
// The maximum gives enough blocks for any device. From 8192 rows on, the partial sums (4 bytes for at least 16 rows of
// 2 bytes) cost an eighth of reading dy once.
inline constexpr int64_t kRowRuns = 512;
constexpr int64_t row_runs(int64_t rows) { return rows < kRowRuns ? rows : kRowRuns; }

inline constexpr int64_t kRunsAtOnce = 16;  // of a launch that adds them

// rotation_gradient sums them in float64.
constexpr int64_t rotation_gradient_bytes(int64_t rows, int64_t pairs) { return row_runs(rows) * pairs * 8; }

// The number of keys, of 8 bytes each, that embedding_backward sorts to find the rows of each id.
inline constexpr int kSortedInABlock = 1024;  // keys sorted by one block in shared memory
constexpr int64_t embedding_keys(int64_t rows) {
  int64_t count = kSortedInABlock;
  while (count < rows) count *= 2;
  return count;
}
// One launch for all steps within a chunk, and one for each step between partners further apart.
constexpr int64_t embedding_sort_launches(int64_t rows) {
  int64_t launches = 0, far = 0;
  for (int64_t block = kSortedInABlock; block <= embedding_keys(rows); block *= 2) launches += 1 + far++;
  return launches;
}

// The gradients of a table row are added per piece of this many keys, then over the pieces.
inline constexpr int64_t kEmbeddingPiece = 256;
constexpr int64_t embedding_pieces(int64_t rows) { return parts(rows, kEmbeddingPiece); }
// The number of rows of partial sums, for table rows that cross borders between pieces.
constexpr int64_t embedding_partials(int64_t rows) { return rows <= kEmbeddingPiece ? 0 : 2 * embedding_pieces(rows); }
// Launches for the keys, the sort, the sums of pieces, and the sums over pieces.
constexpr int64_t embedding_launches(int64_t rows) {
  return 2 + embedding_sort_launches(rows) + (embedding_pieces(rows) > 1 ? 1 : 0);
}
// Bytes of scratch, with `wide` = sizeof(A): keys, then partial sums.
constexpr int64_t embedding_bytes(int64_t rows, int64_t channels, int64_t wide) {
  return embedding_keys(rows) * 8 + embedding_partials(rows) * channels * wide;
}

}  // namespace carillon::cuda
