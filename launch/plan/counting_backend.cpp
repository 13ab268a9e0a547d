#include "launch/plan/counting_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "launch/plan/backend_scratch.h"

namespace carillon {
namespace {

// Addresses that take memory where they are written only, and are not promised any.
Buffer reserve(size_t bytes, std::function<void(void*)> forget) {
  const size_t wanted = std::max<size_t>(bytes, 1);
  void* data = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    fail(ExitCode::kInputOutput, "cannot reserve {} MiB of addresses, to count the ops of a step", bytes >> 20);
  return {data, bytes, [wanted, forget = std::move(forget)](void* pointer) {
            forget(pointer);
            munmap(pointer, wanted);
          }};
}

struct Made : Backend::Copy {
  void wait() override {}
};

void move(Tensor to, Tensor from) {
  CHECK(to.shape() == from.shape() && to.dtype() == from.dtype() && to.packed() && from.packed(),
        "copies between host and device are of packed tensors of one shape", describe(to), describe(from));
  if (!to.empty()) std::memcpy(to.raw(), from.raw(), to.bytes());
}

}  // namespace

int64_t DeviceCounts::calls() const {
  int64_t sum = 0;
  for (const auto& [op, number] : ops) sum += number;
  return sum;
}

void DeviceCounts::add(const DeviceCounts& other) {
  for (const auto& [op, number] : other.ops) ops[op] += number;
  launches += other.launches, products += other.products, allocations += other.allocations;
  to_device_bytes += other.to_device_bytes, to_host_bytes += other.to_host_bytes;
  scratch_bytes = std::max(scratch_bytes, other.scratch_bytes);
}

void CountingBackend::count(const char* op, int64_t kernels) {
  ++counts_.ops[op];
  counts_.launches += kernels;
}

void CountingBackend::count(const char* op, const Tensor& over, int64_t kernels) {
  count(op, over.empty() ? 0 : kernels);
}

void CountingBackend::scratch(int64_t bytes) {
  counts_.scratch_bytes = std::max(counts_.scratch_bytes, static_cast<size_t>(bytes));
}

Buffer CountingBackend::allocate(size_t bytes) {
  ++counts_.allocations;
  Buffer buffer = reserve(bytes, [this](void* pointer) { buffers_.erase(static_cast<const char*>(pointer)); });
  buffers_[static_cast<const char*>(buffer.data())] = bytes;
  return buffer;
}

Buffer CountingBackend::allocate_host(size_t bytes) {
  return reserve(bytes, [](void*) {});
}

bool CountingBackend::holds(const void* pointer) const {
  auto after = buffers_.upper_bound(static_cast<const char*>(pointer));
  if (after == buffers_.begin()) return false;
  const auto& [begin, bytes] = *--after;
  return static_cast<const char*>(pointer) < begin + bytes;
}

void CountingBackend::upload(Tensor device, Tensor host) {
  move(device, host);
  counts_.to_device_bytes += static_cast<int64_t>(device.bytes());
  wait();
}

void CountingBackend::download(Tensor host, Tensor device) {
  move(host, device);
  counts_.to_host_bytes += static_cast<int64_t>(device.bytes());
  wait();
}

std::unique_ptr<Backend::Copy> CountingBackend::start_upload(Tensor device, Tensor) {
  counts_.to_device_bytes += static_cast<int64_t>(device.bytes());
  return std::make_unique<Made>();
}

std::unique_ptr<Backend::Copy> CountingBackend::start_download(Tensor, Tensor device) {
  counts_.to_host_bytes += static_cast<int64_t>(device.bytes());
  return std::make_unique<Made>();
}

// ---- the ops, and the kernels that runtime/cuda/*.cu launch for them ----------------------------------------------

void CountingBackend::fill(Tensor x, double) { count("fill", x); }
void CountingBackend::copy(Tensor y, Tensor) { count("copy", y); }
void CountingBackend::add(Tensor y, Tensor) { count("add", y); }
void CountingBackend::sum(Tensor y, Tensor, Tensor) { count("sum", y); }
void CountingBackend::scale(Tensor x, double) { count("scale", x); }

// Sums of blocks, then of those.
double CountingBackend::sum_of_squares(std::span<const Tensor> tensors) {
  int64_t present = 0, bytes = 0;
  for (const Tensor& x : tensors) {
    if (x.empty()) continue;
    ++present;
    bytes += cuda_scratch::sum_of_squares(x.count());
  }
  count("sum_of_squares", 2 * cuda_scratch::squares_launches(present));
  if (present == 0) return 0;
  scratch(bytes);
  counts_.to_host_bytes += 8 * present;
  wait();
  return 1;
}

void CountingBackend::matmul(Tensor c, Tensor a, Tensor, Transpose transpose_a, Transpose, bool accumulate) {
  const bool nothing_to_sum = a.size(transpose_a == Transpose::kYes ? 0 : 1) == 0;
  count("matmul", c, nothing_to_sum && !accumulate ? 1 : 0);
  if (!c.empty() && !nothing_to_sum) ++counts_.products;
}

void CountingBackend::add_bias(Tensor y, Tensor) { count("add_bias", y); }
// Sums of runs of rows, then of those; rmsnorm_backward's dweight too.
void CountingBackend::bias_backward(Tensor, Tensor dy) {
  count("bias_backward", dy, 2);
  scratch(cuda_scratch::row_sums(dy.size(0), dy.size(1), accumulate_type(dy.dtype())));
}

void CountingBackend::embedding_forward(Tensor y, Tensor, Tensor, int64_t) { count("embedding_forward", y); }
// Keys, the kernels of a bitonic sort, and the sums.
void CountingBackend::embedding_backward(Tensor, Tensor, Tensor dy, int64_t) {
  count("embedding_backward", dy, 2 + cuda_scratch::sort_kernels(dy.size(0)));
  scratch(cuda_scratch::sort_keys(dy.size(0)) * 8);
}

void CountingBackend::rmsnorm_forward(Tensor y, Tensor, Tensor, Tensor, double) { count("rmsnorm_forward", y); }
void CountingBackend::rmsnorm_backward(Tensor dx, Tensor, Tensor, Tensor x, Tensor weight, Tensor, bool) {
  count("rmsnorm_backward", dx, 2);
  if (!dx.empty())
    scratch(cuda_scratch::row_sums(dx.count() / weight.count(), weight.count(), accumulate_type(x.dtype())));
}

void CountingBackend::rotate(Tensor x, Tensor, Tensor cosine, Tensor, bool) {
  count("rotate", x, cosine.size(1) > 0 ? 1 : 0);
}

void CountingBackend::swiglu_forward(Tensor y, Tensor, Tensor) { count("swiglu_forward", y); }
void CountingBackend::swiglu_backward(Tensor, Tensor, Tensor, Tensor dy, Tensor, Tensor) {
  count("swiglu_backward", dy);
}

void CountingBackend::attention_begin(const AttentionState& state) { count("attention_begin", state.maximum); }
// cuDNN's kernel counts as one, and one merges what it gives.
void CountingBackend::attention_forward(const AttentionState&, Tensor q, Tensor, Tensor, const AttentionMask& mask,
                                        double) {
  if (!fused_attention_ || mask.shape.kind == MaskShape::Kind::kIntervals) return count("attention_forward", q);
  const Tensor seeing = q.slice(1, mask.shape.kind == MaskShape::Kind::kFull ? mask.shape.begin : 0, q.size(1));
  count("attention_forward", seeing, 2);
  scratch(cuda_scratch::fused_forward(seeing.size(0), seeing.size(1), seeing.size(2), seeing.size(3)));
}
void CountingBackend::attention_finish(Tensor out, Tensor, const AttentionState&) { count("attention_finish", out); }
void CountingBackend::attention_delta(Tensor, Tensor dout, Tensor) { count("attention_delta", dout); }
// By keys, then by queries.
void CountingBackend::attention_backward(Tensor, Tensor, Tensor, Tensor q, Tensor, Tensor, Tensor, Tensor, Tensor,
                                         const AttentionMask&, double) {
  count("attention_backward", q, 2);
}
// cuDNN's, then dq, dk and dv are added.
void CountingBackend::attention_backward_whole(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v,
                                               Tensor dout, Tensor, Tensor lse, Tensor delta, const AttentionMask& mask,
                                               double factor) {
  const int64_t wanted = cuda_scratch::fused_backward(q.size(0), q.size(1), q.size(2), k.size(2), q.size(3));
  if (!fused_attention_ || mask.shape.kind != MaskShape::Kind::kCausal || mask.shape.empty_rows || wanted == 0)
    return attention_backward(dq, dk, dv, q, k, v, dout, lse, delta, mask, factor);
  count("attention_backward", q);
  for (const Tensor& gradient : {dq, dk, dv}) count("add", gradient);
  scratch(wanted);
}

void CountingBackend::cross_entropy_maximum(Tensor maximum, Tensor) { count("cross_entropy_maximum", maximum); }
void CountingBackend::cross_entropy_sums(Tensor, Tensor, Tensor maximum, Tensor, int64_t) {
  count("cross_entropy_sums", maximum);
}
void CountingBackend::cross_entropy_finish(Tensor loss, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int64_t) {
  count("cross_entropy_finish", loss);
}

void CountingBackend::adamw(std::span<const AdamWTensors> tensors, const AdamWStep&) {
  const auto empty = [](const AdamWTensors& x) { return x.master.empty(); };
  const auto present = static_cast<int64_t>(tensors.size()) - std::count_if(tensors.begin(), tensors.end(), empty);
  count("adamw", cuda_scratch::adamw_launches(present));
}

}  // namespace carillon
