#include "launch/plan/backend_scratch.h"

#include <algorithm>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/product_pieces.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon {

namespace cuda_scratch {
namespace {

int64_t parts(int64_t value, int64_t granule) { return (value + granule - 1) / granule; }
int64_t round_up(int64_t value, int64_t granule) { return parts(value, granule) * granule; }

}  // namespace

int64_t row_sums(int64_t rows, int64_t channels, DType wide) {
  return std::min(rows, cuda::kRowRuns) * channels * static_cast<int64_t>(size_of(wide));
}

int64_t sum_of_squares(int64_t count) { return (parts(count, cuda::kSquaresChunk) + 1) * 8; }

int64_t fused_forward(int64_t batch, int64_t rows, int64_t heads, int64_t head_dim) {
  const int64_t statistics = batch * rows * heads;
  return round_up(statistics * head_dim * 2, 256) + round_up(statistics * 4, 256);
}

int64_t fused_backward(int64_t batch, int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const int64_t padded = round_up(rows, 64), workspace = batch * heads * padded * padded * 2;
  if (workspace > cuda::kMostBackwardWorkspace) return 0;
  return round_up(batch * rows * heads * head_dim * 4, 256) +
         2 * round_up(batch * rows * kv_heads * head_dim * 2, 256) + round_up(workspace, 256);
}

int64_t squares_launches(int64_t tensors) { return parts(tensors, cuda::kSquaresTensors); }
int64_t adamw_launches(int64_t tensors) { return parts(tensors, cuda::kAdamWTensors); }

int64_t sort_keys(int64_t rows) {
  int64_t count = cuda::kSortedInABlock;
  while (count < rows) count *= 2;
  return count;
}

// A launch for the steps within a chunk, and one for each step between partners further apart.
int64_t sort_kernels(int64_t rows) {
  int64_t kernels = 0, far = 0;
  for (int64_t block = cuda::kSortedInABlock; block <= sort_keys(rows); block *= 2) kernels += 1 + far++;
  return kernels;
}

}  // namespace cuda_scratch

size_t backend_scratch_bytes(const ScratchShape& s) {
  if (s.device == "reference") return 0;
  if (s.device == "cuda") {
    const DType wide = accumulate_type(s.compute);
    const int64_t rows = s.batch * s.queries;
    const int64_t attention =
        !s.fused_attention
            ? 0
            : std::max(cuda_scratch::fused_forward(s.batch, s.queries, s.heads, s.head_dim),
                       s.ring ? 0 : cuda_scratch::fused_backward(s.batch, s.queries, s.heads, s.kv_heads, s.head_dim));
    return static_cast<size_t>(
        std::max({cuda::kScratchBytes, attention, cuda_scratch::row_sums(rows, s.hidden, wide),
                  cuda_scratch::row_sums(rows, s.widest_bias, wide), cuda_scratch::sort_keys(rows) * 8}) +
        cuda_scratch::kFlag);
  }
  using namespace cpu;
  const bool tiles = s.compute == DType::kBFloat16 && s.instruction_set == "amx";
  const bool pairs = tiles || (s.compute == DType::kBFloat16 && s.instruction_set == "avx512_bf16");
  const int64_t depth = pairs ? 2 : 1, width = static_cast<int64_t>(size_of(accumulate_type(s.compute)));
  const int64_t granule = tiles ? 16 : 1;  // Operand::kGranule
  const int64_t words = (s.head_dim + depth * granule - 1) / (depth * granule) * granule,
                padded = padded_width(s.head_dim);
  const int64_t all_keys = round_to_panel(s.keys);

  const int64_t forward = s.batch * s.kv_heads * all_keys * (words + padded / depth) +
                          s.threads * kForwardRows * (words + padded + 2 + kForwardKeys);

  const int64_t key_blocks = (s.keys + kBackwardKeys - 1) / kBackwardKeys;
  const bool by_heads = s.batch * s.kv_heads >= s.threads && key_blocks <= kBlocksOfOneThread;
  const int64_t piece = std::min(backward_queries_at_once(padded, depth, width), s.queries);
  const int64_t piece_panels = round_to_panel(piece);
  const int64_t head = 2 * s.keys * words + 2 * piece_panels * words + (all_keys + 2 * piece_panels) / depth * padded +
                       2 * piece_panels + 2 * piece * padded;
  const int64_t backward = (by_heads ? s.threads : 1) * head +
                           s.threads * (3 * kBackwardKeys * kBackwardQueries + 2 * kBackwardKeys * padded);

  const int64_t visible = s.batch * s.queries * static_cast<int64_t>(sizeof(Visible));
  const int64_t widened =
      s.compute == DType::kBFloat16 && !pairs ? 4 * (s.largest_left + s.largest_right + s.largest_result) : 0;
  const int64_t right = s.largest_right * (pairs ? 2 : 4);
  const int64_t packed = s.compute == DType::kFloat64 ? 0 : std::min(right, kPackedBytes);
  const int64_t partial =
      pairs && right > kPackedBytes ? std::min(s.batch * s.queries, kPartialRows) * s.hidden * 4 : 0;
  return static_cast<size_t>((forward + backward) * width + visible + widened + packed + partial);
}

}  // namespace carillon
