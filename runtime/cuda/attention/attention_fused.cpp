// The second attention engine in CudaBackend: which calls it takes, its results brought into the running state, and the
// comparison with the native kernels before it is used.
//
// Takes bfloat16 blocks that the caller knows to be full or causal (MaskShape); all else goes to the native kernels. In
// a ring those do the whole backward pass too: cuDNN gives a block's dK and dV rounded to bfloat16 and cannot add to
// what is there. Its results lie in the scratch area until they are merged.
#include <array>
#include <cmath>
#include <cstdlib>

#include "runtime/cuda/attention/attention_operands.h"
#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"

namespace carillon {
namespace {

using namespace cuda;

// bfloat16 with rows that can be read 16 bytes at a time.
bool taken(const Tensor& x) {
  if (x.dtype() != DType::kBFloat16 || x.rank() != 4 || x.stride(3) != 1 || x.size(3) % 8 != 0) return false;
  for (int dim = 0; dim < 3; ++dim)
    if (x.stride(dim) % 8 != 0) return false;
  return reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0;
}

FusedBlock block_of(const Tensor& q, const Tensor& k, const Tensor& v, MaskShape::Kind kind, double scale) {
  return {q.size(0),
          q.size(1),
          k.size(1),
          static_cast<int>(q.size(2)),
          static_cast<int>(k.size(2)),
          static_cast<int>(q.size(3)),
          kind == MaskShape::Kind::kCausal ? BlockMask::kCausal : BlockMask::kFull,
          scale,
          heads_view(q, q.dtype()),
          heads_view(k, q.dtype()),
          heads_view(v, q.dtype())};
}

// Places one after the other in memory whose size comes out of it; `base` may be absent.
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

// Packed tensors of a call's results in the scratch area, then the engine's workspace.
struct ForwardPlaces {
  Tensor out, lse;
  void* workspace;
  ForwardPlaces(Places& places, const Tensor& q, int64_t workspace_bytes)
      : out(places.take(q.count() * 2), DType::kBFloat16, q.shape()),
        lse(places.take(q.size(0) * q.size(1) * q.size(2) * 4), DType::kFloat32, {q.size(0), q.size(2), q.size(1)}),
        workspace(places.take(workspace_bytes)) {}
};
struct BackwardPlaces {
  Tensor dq, dk, dv;
  void* workspace;
  BackwardPlaces(Places& places, const Tensor& q, const Tensor& k, int64_t workspace_bytes)
      : dq(places.take(q.count() * 4), DType::kFloat32, q.shape()),
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

}  // namespace

bool CudaBackend::fused_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                                double scale) {
  if (!fused_ || mask.shape.kind == MaskShape::Kind::kIntervals || !taken(q) || !taken(k) || !taken(v)) return false;
  (void)problem_of(q, k, v, mask, scale);  // its checks
  const int64_t begin = mask.shape.kind == MaskShape::Kind::kFull ? mask.shape.begin : 0, end = q.size(1);
  const auto rows = [&](const Tensor& x, int dim) { return x.slice(dim, begin, end); };
  const Tensor seeing = rows(q, 1);
  if (seeing.empty() || k.empty()) return true;
  const FusedBlock block = block_of(seeing, k, v, mask.shape.kind, scale);
  Places unplaced;
  const int64_t workspace = fused_->workspace(call_of(block, ForwardPlaces(unplaced, seeing, 0)));
  if (workspace == FusedAttention::kNoPlan)
    fail(ExitCode::kUsage,
         "{} has no plan for attention with {} query heads and {} of keys, of size {}, {} rows on {} keys, in "
         "runtime.attention: cudnn, use native",
         fused_->name(), block.heads, block.kv_heads, block.head_size, block.rows, block.keys);
  unplaced.take(workspace);
  Places places(scratch(unplaced.used()));
  const ForwardPlaces results(places, seeing, workspace);
  const cudaStream_t stream = on_device();
  fused_->run(call_of(block, results), results.workspace, stream);

  const DType wide = DType::kFloat32;
  const Tensor accumulator = rows(state.accumulator, 1), maximum = rows(state.maximum, 2), sum = rows(state.sum, 2);
  CHECK_CUDA(launch_attention_merge(
      {rows_of(seeing, maximum), heads_view(results.out, DType::kBFloat16), statistic_view(results.lse, wide),
       heads_view(accumulator, wide), statistic_view(maximum, wide), statistic_view(sum, wide),
       static_cast<const int64_t*>(mask.query_index.raw()) + begin,
       static_cast<const int64_t*>(mask.first.raw()) + begin, mask.first.stride(0)},
      stream));
  return true;
}

bool CudaBackend::fused_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor out,
                                 Tensor lse, const AttentionMask& mask, double scale) {
  // A row without keys has lse = -inf, which the engine would turn into NaN.
  if (!fused_ || mask.shape.kind != MaskShape::Kind::kCausal || mask.shape.empty_rows || q.empty()) return false;
  for (const Tensor* x : {&q, &k, &v, &dout, &out})
    if (!taken(*x)) return false;
  if (!lse.packed()) return false;
  (void)problem_of(q, k, v, mask, scale);
  const FusedBlock block = block_of(q, k, v, mask.shape.kind, scale);
  Places unplaced;
  const int64_t workspace = fused_->workspace(call_of(block, BackwardPlaces(unplaced, q, k, 0), out, dout, lse));
  if (workspace == FusedAttention::kNoPlan || workspace > kMostBackwardWorkspace) return false;
  unplaced.take(workspace);
  Places places(scratch(unplaced.used()));
  const BackwardPlaces results(places, q, k, workspace);
  fused_->run(call_of(block, results, out, dout, lse), results.workspace, on_device());
  add(dq, results.dq);
  add(dk, results.dk);
  add(dv, results.dv);
  return true;
}

void CudaBackend::attention_backward_whole(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout,
                                           Tensor out, Tensor lse, Tensor delta, const AttentionMask& mask,
                                           double scale) {
  if (!fused_backward(dq, dk, dv, q, k, v, dout, out, lse, mask, scale))
    attention_backward(dq, dk, dv, q, k, v, dout, lse, delta, mask, scale);
}

// ---- before it is used -------------------------------------------------------------------------------------------

namespace {

// |a - b| / |b|, or infinity where something is not finite.
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

// Results of the two engines may differ by roundings to bfloat16, 2^-9 each: of the weights, of a block's output and of
// the result. Gradients are rounded once more, and where heads are grouped once for every query head.
constexpr double kForwardBound = 1.0 / 128, kBackwardBound = 1.0 / 64;

}  // namespace

void CudaBackend::start_fused_attention() {
  int major = 0, minor = 0;
  CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_));
  CHECK_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device_));
  if (major < 9)
    fail(ExitCode::kUsage,
         "cuDNN's attention is for compute capability 9.0 and later, and CUDA device {} ({}) has {}.{}, in "
         "runtime.attention: cudnn, use native",
         device_, description_.processor, major, minor);
  fused_ = load_fused_attention(device_);
  for (const int64_t head_size : {64, 128}) compare_fused_attention(head_size);
  description_.attention = fused_->name() + " where blocks are whole; in a ring backward by native kernels";
  description_.libraries.emplace_back("fused attention", fused_->name());
}

// Own keys and an earlier block of them, as a ring meets them: two folds. Then the backward pass of own keys alone.
void CudaBackend::compare_fused_attention(int64_t head_size) {
  constexpr int64_t kRows = 160, kHeads = 2;  // no multiple of a tile; keys of one head
  const int64_t elements = kRows * head_size;
  std::vector<Buffer> buffers;
  const auto tensor = [&](DType type, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    buffers.push_back(allocate(static_cast<size_t>(count) * size_of(type)));
    return Tensor(buffers.back().data(), type, shape);
  };
  uint64_t random = 1;
  const auto values = [&](int64_t heads) {
    std::vector<float> host(static_cast<size_t>(heads * elements));
    for (float& value : host) {  // spread 1
      random = random * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>((static_cast<double>(random >> 11) * 0x1p-53 - 0.5) * std::sqrt(12.0));
    }
    const std::vector<int64_t> shape{1, kRows, heads, head_size};
    const Tensor single = tensor(DType::kFloat32, shape), rounded = tensor(DType::kBFloat16, shape);
    upload(single, Tensor(host.data(), DType::kFloat32, shape));
    copy(rounded, single);
    return rounded;
  };
  const Tensor q = values(kHeads), k = values(1), v = values(1), dout = values(kHeads), k2 = values(1), v2 = values(1);
  std::vector<int64_t> order(2 * kRows), begin(kRows);
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  const Tensor index = tensor(DType::kInt64, {2 * kRows}), first = tensor(DType::kInt64, {1, kRows});
  upload(index, Tensor::of(order, {2 * kRows}));
  upload(first, Tensor::of(begin, {1, kRows}));
  const Tensor late = index.rows(kRows, 2 * kRows), early = index.rows(0, kRows);
  const double scale = 1 / std::sqrt(static_cast<double>(head_size));

  struct Results {
    std::vector<double> out, lse, dq, dk, dv;
  };
  const auto run = [&](bool fused) {
    const auto shape = [&](MaskShape::Kind kind) { return fused ? MaskShape{kind} : MaskShape{}; };
    const AttentionMask own{late, first, late, shape(MaskShape::Kind::kCausal)};
    const AttentionMask other{late, first, early, shape(MaskShape::Kind::kFull)};
    const AttentionState state{tensor(DType::kFloat32, q.shape()), tensor(DType::kFloat32, {1, kHeads, kRows}),
                               tensor(DType::kFloat32, {1, kHeads, kRows})};
    const Tensor out = tensor(DType::kBFloat16, q.shape()), lse = tensor(DType::kFloat32, {1, kHeads, kRows}),
                 delta = tensor(DType::kFloat32, {1, kHeads, kRows}), dq = tensor(DType::kFloat32, q.shape()),
                 dk = tensor(DType::kFloat32, k.shape()), dv = tensor(DType::kFloat32, k.shape());
    Results results;
    attention_begin(state, {});
    attention_forward(state, q, k, v, own, scale);
    attention_finish(out, lse, state);
    attention_delta(delta, dout, out);
    attention_backward_whole(dq, dk, dv, q, k, v, dout, out, lse, delta, own, scale);
    for (const auto& [to, from] : {std::pair(&results.dq, dq), {&results.dk, dk}, {&results.dv, dv}})
      *to = download_as_double(*this, from);
    attention_forward(state, q, k2, v2, other, scale);
    attention_finish(out, lse, state);
    results.out = download_as_double(*this, out), results.lse = download_as_double(*this, lse);
    return results;
  };
  const Results expected = run(false), got = run(true);
  for (const auto& [what, a, b, bound] : {std::tuple("output", &got.out, &expected.out, kForwardBound),
                                          {"log-sum-exp", &got.lse, &expected.lse, kForwardBound},
                                          {"dq", &got.dq, &expected.dq, kBackwardBound},
                                          {"dk", &got.dk, &expected.dk, kBackwardBound},
                                          {"dv", &got.dv, &expected.dv, kBackwardBound}})
    if (const double far = distance(*a, *b); !(far <= bound))
      fail(ExitCode::kInternal,
           "{} on {} differs from the native kernels: {} by {:.2g} of its size, more than {:.2g}, with heads of {}, in "
           "runtime.attention: cudnn, use native, and tell us",
           fused_->name(), description_.processor, what, far, bound, head_size);
}

}  // namespace carillon
