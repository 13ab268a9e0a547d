#include "runtime/scratch.h"

#include <algorithm>

#include "runtime/cpu/kernels.h"
#include "runtime/cpu/product_pieces.h"
#include "runtime/cuda/attention/fused_sizes.h"
#include "runtime/cuda/ops/launch_sizes.h"

namespace carillon {

size_t backend_scratch_bytes(const ScratchShape& s) {
  if (s.device == "reference") return 0;
  if (s.device == "cuda") {
    const DType wide = accumulate_type(s.compute);
    const int64_t rows = s.batch * s.queries;
    const int64_t edge = std::min(s.queries, cuda::fused_edge(s.batch, s.heads, s.kv_heads, s.head_dim));
    const int64_t attention =
        !s.fused_attention || !cuda::fused_head_size(s.head_dim)
            ? 0
            : std::max(cuda::fused_forward_bytes(s.batch, s.queries, s.heads, s.head_dim),
                       cuda::fused_backward_bytes(s.batch, edge, edge, s.heads, s.kv_heads, s.head_dim));
    const auto row_sums = [&](int64_t channels) {
      return cuda::row_runs(rows) * channels * static_cast<int64_t>(size_of(wide));
    };
    constexpr int64_t kFlag = 4;  // the flag "position beyond the table", a separate allocation
    return static_cast<size_t>(std::max({cuda::kScratchBytes, attention, row_sums(s.hidden), row_sums(s.widest_bias),
                                         cuda::embedding_bytes(rows, s.hidden, static_cast<int64_t>(size_of(wide)))}) +
                               s.open_norms + kFlag);
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

int64_t open_norm_bytes(int64_t rows, int64_t channels, DType compute) {
  const auto wide = static_cast<int64_t>(size_of(accumulate_type(compute)));
  return cuda::round_up(cuda::row_runs(rows) * channels * wide, 16);
}

}  // namespace carillon
