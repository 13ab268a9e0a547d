// How the kernels cut their work, how many launches that is and what of the scratch area it takes: what the ops of this
// folder go by, and `carillon plan` too (launch/plan/counting_backend.cpp, runtime/scratch.cpp). No CUDA here.
#pragma once

#include <cstdint>

namespace carillon::cuda {

// The scratch area all ops share from the start: cuBLASLt's workspace (NVIDIA recommends 32 MiB on Hopper and later).
inline constexpr int64_t kScratchBytes = int64_t{32} << 20;

constexpr int64_t parts(int64_t value, int64_t granule) { return (value + granule - 1) / granule; }
constexpr int64_t round_up(int64_t value, int64_t granule) { return parts(value, granule) * granule; }

inline constexpr int64_t kSquaresChunk = 32768;  // elements of a block of sum_of_squares
inline constexpr int64_t kSquaresTensors = 128;  // of a launch; their table fits its argument
// Of each tensor, doubles; and one more for its result.
constexpr int64_t sum_of_squares_partials(int64_t count) { return parts(count, kSquaresChunk); }
constexpr int64_t sum_of_squares_launches(int64_t tensors) { return 2 * parts(tensors, kSquaresTensors); }

inline constexpr int64_t kAdamWTensors = 60;
constexpr int64_t adamw_launches(int64_t tensors) { return parts(tensors, kAdamWTensors); }

// Sums over rows are formed for runs of rows, then over the runs: so many runs, by the number of rows alone. At most
// enough blocks for any device; their partial sums of 4 bytes against at least 16 rows of 2 bytes, from 8192 rows on,
// cost an eighth of reading dy once.
inline constexpr int64_t kRowRuns = 512;
constexpr int64_t row_runs(int64_t rows) { return rows < kRowRuns ? rows : kRowRuns; }

inline constexpr int64_t kRunsAtOnce = 16;  // of a launch that adds them

// rotation_gradient sums them in float64.
constexpr int64_t rotation_gradient_bytes(int64_t rows, int64_t pairs) { return row_runs(rows) * pairs * 8; }

// What embedding_backward sorts to find the rows of each id: so many keys of 8 bytes.
inline constexpr int kSortedInABlock = 1024;  // keys, in shared memory
constexpr int64_t embedding_keys(int64_t rows) {
  int64_t count = kSortedInABlock;
  while (count < rows) count *= 2;
  return count;
}
// A launch for the steps within a chunk, and one for each step between partners further apart.
constexpr int64_t embedding_sort_launches(int64_t rows) {
  int64_t launches = 0, far = 0;
  for (int64_t block = kSortedInABlock; block <= embedding_keys(rows); block *= 2) launches += 1 + far++;
  return launches;
}

// A table row's gradients are added by pieces of so many keys, then over the pieces.
inline constexpr int64_t kEmbeddingPiece = 256;
constexpr int64_t embedding_pieces(int64_t rows) { return parts(rows, kEmbeddingPiece); }
// Rows of sums of what crosses the borders between pieces.
constexpr int64_t embedding_partials(int64_t rows) { return rows <= kEmbeddingPiece ? 0 : 2 * embedding_pieces(rows); }
// The keys, the sort, the sums of pieces and over them.
constexpr int64_t embedding_launches(int64_t rows) {
  return 2 + embedding_sort_launches(rows) + (embedding_pieces(rows) > 1 ? 1 : 0);
}
// Of scratch, A being `wide` bytes: keys, then partial sums.
constexpr int64_t embedding_bytes(int64_t rows, int64_t channels, int64_t wide) {
  return embedding_keys(rows) * 8 + embedding_partials(rows) * channels * wide;
}

}  // namespace carillon::cuda
