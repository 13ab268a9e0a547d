// The second attention engine in CudaBackend: decides which pieces of a call it computes, merges its results into the
// running state and the accumulators of the gradients, and compares it with the native kernels before it is used.
//
// The engine computes whole bfloat16 pieces (attention_pieces.h); all others go to the native kernels. Forward, a piece
// is one call, whose output and log-sum-exp are merged into the state. Backward, it is cut into blocks of fused_edge(),
// since the engine's workspace is quadratic in them. Each block gets the final output and log-sum-exp of its rows, so
// that the parts add up, and its gradients (dk and dv in bfloat16) are added to the float32 accumulators. The engine's
// results are in the scratch area until then.
#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/attention_pieces.h"
#include "runtime/cuda/attention/attention_operands.h"
#include "runtime/cuda/attention/fused_sizes.h"
#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"

namespace carillon {
namespace {

using namespace cuda;

// Whether x is bfloat16 with rows that can be read 16 bytes at a time.
bool taken(const Tensor& x) {
  if (x.dtype() != DType::kBFloat16 || x.rank() != 4 || x.stride(3) != 1 || x.size(3) % 8 != 0) return false;
  for (int dim = 0; dim < 3; ++dim)
    if (x.stride(dim) % 8 != 0) return false;
  return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0;
}

FusedBlock block_of(const Tensor& q, const Tensor& k, const Tensor& v, MaskPiece::Kind kind, double scale) {
  return {q.size(0),
          q.size(1),
          k.size(1),
          static_cast<int>(q.size(2)),
          static_cast<int>(k.size(2)),
          static_cast<int>(q.size(3)),
          kind == MaskPiece::Kind::kCausal ? BlockMask::kCausal : BlockMask::kFull,
          scale,
          heads_view(q, q.dtype()),
          heads_view(k, q.dtype()),
          heads_view(v, q.dtype())};
}

// Assigns consecutive places in memory and counts their size; `base` may be null to only count.
class Places {
 public:
  explicit Places(void* base = nullptr) : base_(static_cast<char*>(base)) {}
  void* take(int64_t bytes) {
    char* place = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (static_cast<size_t>(bytes) + 255) / 256 * 256;
    return place;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

// Packed tensors for the results of a call in the scratch area, followed by the engine's workspace.
struct ForwardPlaces {
  Tensor out, lse;
  void* workspace;
  ForwardPlaces(Places& places, const Tensor& q, int64_t workspace_bytes)
      : out(places.take(q.count() * 2), DType::kBFloat16, q.shape()),
        lse(places.take(q.size(0) * q.size(1) * q.size(2) * 4), DType::kFloat32, {q.size(0), q.size(2), q.size(1)}),
        workspace(places.take(workspace_bytes)) {}
};
struct BackwardPlaces {
  Tensor lse, dq, dk, dv;
  void* workspace;
  BackwardPlaces(Places& places, const Tensor& q, const Tensor& k, int64_t workspace_bytes)
      : lse(places.take(q.size(0) * q.size(1) * q.size(2) * 4), DType::kFloat32, {q.size(0), q.size(2), q.size(1)}),
        dq(places.take(q.count() * 4), DType::kFloat32, q.shape()),
        dk(places.take(k.count() * 2), DType::kBFloat16, k.shape()),
        dv(places.take(k.count() * 2), DType::kBFloat16, k.shape()),
        workspace(places.take(workspace_bytes)) {}
};

FusedForward call_of(const FusedBlock& block, const ForwardPlaces& places) {
  return {block, heads_view(places.out, DType::kBFloat16), static_cast<float*>(places.lse.raw())};
}
FusedBackward call_of(const FusedBlock& block, const BackwardPlaces& places, const Tensor& out, const Tensor& dout,
                      const Tensor& lse) {
  return {block,
          heads_view(out, DType::kBFloat16),
          heads_view(dout, DType::kBFloat16),
          static_cast<const float*>(lse.raw()),
          heads_view(places.dq, DType::kFloat32),
          heads_view(places.dk, DType::kBFloat16),
          heads_view(places.dv, DType::kBFloat16)};
}

const int64_t* index_data(const Tensor& x) { return static_cast<const int64_t*>(x.raw()); }

}  // namespace

bool CudaBackend::fused_takes(std::initializer_list<Tensor> operands) const {
  if (!fused_) return false;
  for (const Tensor& x : operands)
    if (!taken(x)) return false;
  const int64_t head_size = operands.begin()->size(3);
  return std::find(fused_head_sizes_.begin(), fused_head_sizes_.end(), head_size) != fused_head_sizes_.end();
}

bool CudaBackend::fused_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                                MaskPiece::Kind kind, double scale) {
  if (kind == MaskPiece::Kind::kIntervals || !fused_takes({q, k, v})) return false;
  (void)problem_of(q, k, v, mask, scale);  // its checks
  if (q.empty() || k.empty()) return true;
  const FusedBlock block = block_of(q, k, v, kind, scale);
  Places unplaced;
  const int64_t workspace = fused_->workspace(call_of(block, ForwardPlaces(unplaced, q, 0)));
  if (workspace == FusedAttention::kNoPlan) {
    if (!fused_required_) return false;
    fail(ExitCode::kUsage,
         "{} has no plan for attention with {} query heads and {} of keys, of size {}, {} rows on {} keys, in "
         "runtime.attention: cudnn, use native",
         fused_->name(), block.heads, block.kv_heads, block.head_size, block.rows, block.keys);
  }
  unplaced.take(workspace);
  Places places(scratch(unplaced.used()));
  const ForwardPlaces results(places, q, workspace);
  const cudaStream_t stream = on_device();
  fused_->run(call_of(block, results), results.workspace, stream);
  ++fused_forward_calls_;

  const DType wide = DType::kFloat32;
  CHECK_CUDA(launch_attention_merge(
      {rows_of(q, state.maximum), heads_view(results.out, DType::kBFloat16), statistic_view(results.lse, wide),
       heads_view(state.accumulator, wide), statistic_view(state.maximum, wide), statistic_view(state.sum, wide),
       index_data(mask.query_index), index_data(mask.first), mask.first.stride(0)},
      stream));
  return true;
}

// The output and log-sum-exp of all keys need no state.
bool CudaBackend::fused_whole_forward(Tensor q, Tensor k, Tensor v, const AttentionMask& mask, MaskPiece::Kind kind,
                                      double scale, const AttentionEnds& ends) {
  if (kind == MaskPiece::Kind::kIntervals || !ends.first || ends.sinks || !ends.out || mask.shape.empty_rows)
    return false;
  if (!fused_takes({q, k, v, ends.out}) || !ends.lse.packed()) return false;
  (void)problem_of(q, k, v, mask, scale);  // its checks
  const FusedForward call{block_of(q, k, v, kind, scale), heads_view(ends.out, q.dtype()), ends.lse.data<float>()};
  const int64_t workspace = fused_->workspace(call);
  if (workspace == FusedAttention::kNoPlan) return false;
  void* const place = scratch(static_cast<size_t>(workspace));
  fused_->run(call, place, on_device());
  ++fused_forward_calls_;
  return true;
}

bool CudaBackend::fused_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor out,
                                 Tensor lse, const AttentionMask& mask, MaskPiece::Kind kind, double scale,
                                 const AttentionTurn& turn) {
  if (kind == MaskPiece::Kind::kIntervals || !fused_backward_ || !fused_takes({q, k, v, dout, out})) return false;
  (void)problem_of(q, k, v, mask, scale);
  if (q.empty() || k.empty()) return true;
  const FusedBlock block = block_of(q, k, v, kind, scale);
  // A padding row has lse = -inf, which the engine would turn into NaN.
  const bool as_it_is = lse.packed() && !mask.shape.empty_rows;
  Places unplaced;
  const int64_t workspace = fused_->workspace(call_of(block, BackwardPlaces(unplaced, q, k, 0), out, dout, lse));
  if (workspace == FusedAttention::kNoPlan || workspace > kMostBackwardWorkspace) return false;
  unplaced.take(workspace);
  Places places(scratch(unplaced.used()));
  const BackwardPlaces results(places, q, k, workspace);
  const cudaStream_t stream = on_device();
  const DType wide = DType::kFloat32;
  if (!as_it_is)
    CHECK_CUDA(launch_attention_rows_lse({rows_of(q, lse), statistic_view(lse, wide), results.lse.data<float>(),
                                          index_data(mask.query_index), index_data(mask.first), mask.first.stride(0)},
                                         stream));
  fused_->run(call_of(block, results, out, dout, as_it_is ? lse : results.lse), results.workspace, stream);
  ++fused_backward_calls_;
  // Accumulators, or the whole gradients.
  const bool rounded = dq.dtype() == q.dtype();
  CHECK_CUDA(launch_attention_fold(
      {block.batch, block.rows, block.keys, block.heads, block.kv_heads, block.head_size,
       heads_view(dq, rounded ? q.dtype() : wide), heads_view(dk, rounded ? q.dtype() : wide),
       heads_view(dv, rounded ? q.dtype() : wide), heads_view(results.dq, wide),
       heads_view(results.dk, DType::kBFloat16), heads_view(results.dv, DType::kBFloat16), rounded, turn},
      stream));
  return true;
}

// ---- comparison before use ---------------------------------------------------------------------------------------

namespace {

// |a - b| / |b|; infinity if an element is not finite, unless both are equal.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] && !std::isfinite(a[i])) continue;  // log-sum-exp of padding
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

// Results of the two engines may differ by roundings to bfloat16, 2^-9 each: of the weights, of a block's output and of
// the result. Gradients are rounded once more, and with grouped heads once per query head.
constexpr double kForwardBound = 1.0 / 128, kBackwardBound = 1.0 / 64;
// The maximum number of plans (seconds each) that cuDNN makes unless it was requested by name; further shapes go to the
// native kernels.
constexpr int64_t kMostPlans = 32;

}  // namespace

void CudaBackend::start_fused_attention(const BackendOptions& options) {
  fused_required_ = options.attention == "cudnn";
  int major = 0, minor = 0;
  CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_));
  CHECK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device_));
  const auto refuse = [&](ExitCode code, const std::string& why, const std::string& remedy) {
    fused_.reset();
    fused_head_sizes_.clear();
    if (fused_required_) fail(code, "{}, in runtime.attention: cudnn, {}", why, remedy);
    description_.attention = fmt::format("native kernels ({})", why);
  };
  if (major < 9)
    return refuse(ExitCode::kUsage,
                  fmt::format("cuDNN's attention is for compute capability 9.0 and later, and CUDA device {} ({}) has "
                              "{}.{}",
                              device_, description_.processor, major, minor),
                  "use native");
  FusedLibrary library = load_fused_attention(device_, fused_required_ ? 0 : kMostPlans);
  if (!library.engine) return refuse(ExitCode::kUsage, library.why, library.remedy);
  fused_ = std::move(library.engine);

  const auto sizes = options.head_size > 0 ? std::vector<int64_t>{options.head_size} : std::vector<int64_t>{64, 128};
  fused_backward_ = true;
  for (const int64_t head_size : sizes) {
    fused_head_sizes_.push_back(head_size);
    fused_forward_calls_ = fused_backward_calls_ = 0;
    std::string why;
    try {
      why = compare_fused_attention(head_size, options.head_group);
    } catch (const Error& error) {
      if (fused_required_) throw;
      why = error.what();
    }
    if (!why.empty()) return refuse(ExitCode::kInternal, why, "use native, and tell us");
    if (fused_forward_calls_ < kComparedBlocks)
      return refuse(ExitCode::kUsage, fmt::format("{} has no plan for heads of {}", fused_->name(), head_size),
                    "use native");
    fused_backward_ = fused_backward_ && fused_backward_calls_ >= kComparedBlocks;
  }
  description_.attention_engine = "cudnn";
  description_.attention = fmt::format("{} where blocks are whole, else by native kernels{}", fused_->name(),
                                       fused_backward_ ? "" : ", backward too");
  description_.libraries.emplace_back("fused attention", fused_->name());
}

// Compares the cases of a rank of a zigzag ring: its own keys, causal; another rank's keys that all its rows see; keys
// that only its late rows see. The last rows are padding. Compares output, log-sum-exp and gradients over all three.
std::string CudaBackend::compare_fused_attention(int64_t head_size, int64_t group) {
  constexpr int64_t kRows = 160, kEarly = 64, kPadding = 5;  // not multiples of a tile
  struct Keys {
    int64_t begin, count;  // in the sequence: other, early rows, later, late rows
    MaskShape::Kind kind;
  };
  constexpr int64_t kOther = 96, kLater = 72, kLate = kRows - kEarly;
  const std::array<Keys, kComparedBlocks> blocks{{{0, kRows, MaskShape::Kind::kCausal},
                                                  {0, kOther, MaskShape::Kind::kFull},
                                                  {kOther + kEarly, kLater, MaskShape::Kind::kFull}}};
  const int64_t heads = 2 * group, kv_heads = 2;
  std::vector<Buffer> buffers;
  const auto tensor = [&](DType type, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    buffers.push_back(allocate(static_cast<size_t>(count) * size_of(type)));
    return Tensor(buffers.back().data(), type, shape);
  };
  uint64_t random = 1;
  const auto values = [&](int64_t rows, int64_t of_heads) {
    std::vector<float> host(static_cast<size_t>(rows * of_heads * head_size));
    for (float& value : host) {  // standard deviation 1
      random = random * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>((static_cast<double>(random >> 11) * 0x1p-53 - 0.5) * std::sqrt(12.0));
    }
    const std::vector<int64_t> shape{1, rows, of_heads, head_size};
    const Tensor single = tensor(DType::kFloat32, shape), rounded = tensor(DType::kBFloat16, shape);
    upload(single, Tensor(host.data(), DType::kFloat32, shape));
    copy(rounded, single);
    return rounded;
  };
  const Tensor q = values(kRows, heads), dout = values(kRows, heads);
  std::vector<Tensor> keys, contents;
  for (const Keys& block : blocks) {
    keys.push_back(values(block.count, kv_heads));
    contents.push_back(values(block.count, kv_heads));
  }
  // Sequence indices of all tokens and of the rows, and the first key that each row sees.
  std::vector<int64_t> order(kOther + kEarly + kLater + kLate), own, begin(kRows);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  own.assign(order.begin() + kOther, order.begin() + kOther + kEarly);
  own.insert(own.end(), order.end() - kLate, order.end());
  for (size_t row = kRows - kPadding; row < kRows; ++row) begin[row] = static_cast<int64_t>(order.size());
  const Tensor sequence = tensor(DType::kInt64, {static_cast<int64_t>(order.size())}),
               rows = tensor(DType::kInt64, {kRows}), first = tensor(DType::kInt64, {1, kRows});
  upload(sequence, Tensor::of(order, {static_cast<int64_t>(order.size())}));
  upload(rows, Tensor::of(own, {kRows}));
  upload(first, Tensor::of(begin, {1, kRows}));
  const double scale = 1 / std::sqrt(static_cast<double>(head_size));

  struct Results {
    std::vector<double> out, lse, dq;
    std::vector<double> dk, dv;  // of all blocks
  };
  const auto run = [&](bool fused) {
    const auto mask = [&](size_t i) {
      const Keys& block = blocks[i];
      const bool full = block.kind == MaskShape::Kind::kFull;
      const MaskShape shape{block.kind, full && block.begin > 0 ? kEarly : 0, true};
      return AttentionMask{rows, first, full ? sequence.rows(block.begin, block.begin + block.count) : rows,
                           fused ? shape : MaskShape{}};
    };
    const std::vector<int64_t> statistic{1, heads, kRows};
    const AttentionState state{tensor(DType::kFloat32, q.shape()), tensor(DType::kFloat32, statistic),
                               tensor(DType::kFloat32, statistic)};
    const Tensor out = tensor(DType::kBFloat16, q.shape()), lse = tensor(DType::kFloat32, statistic),
                 delta = tensor(DType::kFloat32, statistic), dq = tensor(DType::kFloat32, q.shape());
    Results results;
    attention_begin(state, {});
    for (size_t i = 0; i < blocks.size(); ++i) attention_forward(state, q, keys[i], contents[i], mask(i), scale, {});
    attention_finish(out, lse, state);
    attention_delta(delta, dout, out);
    for (size_t i = 0; i < blocks.size(); ++i) {
      const Tensor dk = tensor(DType::kFloat32, keys[i].shape()), dv = tensor(DType::kFloat32, keys[i].shape());
      attention_backward(dq, dk, dv, q, keys[i], contents[i], dout, out, lse, delta, mask(i), scale, {});
      for (const auto& [to, from] : {std::pair(&results.dk, dk), {&results.dv, dv}}) {
        const std::vector<double> block = download_as_double(*this, from);
        to->insert(to->end(), block.begin(), block.end());
      }
    }
    results.out = download_as_double(*this, out), results.lse = download_as_double(*this, lse);
    results.dq = download_as_double(*this, dq);
    return results;
  };
  const Results expected = run(false), got = run(true);
  for (const auto& [what, a, b, bound] : {std::tuple("output", &got.out, &expected.out, kForwardBound),
                                          {"log-sum-exp", &got.lse, &expected.lse, kForwardBound},
                                          {"dq", &got.dq, &expected.dq, kBackwardBound},
                                          {"dk", &got.dk, &expected.dk, kBackwardBound},
                                          {"dv", &got.dv, &expected.dv, kBackwardBound}})
    if (const double far = distance(*a, *b); !(far <= bound))
      return fmt::format(
          "{} on {} differs from the native kernels: {} by {:.2g} of its size, more than {:.2g}, with heads of {}",
          fused_->name(), description_.processor, what, far, bound, head_size);
  return {};
}

}  // namespace carillon
