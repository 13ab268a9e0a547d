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

void CountingBackend::around(OpCall& call, const std::function<void()>&) {
  ++counts_.ops[name_of(call.op == OpKind::attention_backward_whole ? OpKind::attention_backward : call.op)];
  counts_.launches += kernels(call);
}

int64_t CountingBackend::kernels(OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  const auto one_over = [](const Tensor& tensor) { return tensor.empty() ? 0 : 1; };
  switch (call.op) {
    case OpKind::fill:
    case OpKind::copy:
    case OpKind::add:
    case OpKind::sum:
    case OpKind::scale:
    case OpKind::scale_rows:
    case OpKind::soft_cap:
    case OpKind::add_bias:
    case OpKind::embedding_forward:
    case OpKind::rmsnorm_forward:
    case OpKind::swiglu_forward:
    case OpKind::attention_finish:
    case OpKind::cross_entropy_maximum:
    case OpKind::cross_entropy_finish:
      return one_over(x[0]);
    case OpKind::swiglu_backward:  // dgate, dup, y, dy, gate, up
      return one_over(x[3]);
    case OpKind::attention_begin:  // accumulator, maximum, sum, sinks; with sinks the accumulator is cleared
      return x[3] ? one_over(x[0]) + one_over(x[1]) : one_over(x[1]);
    case OpKind::row_dot:                   // sums, a, b, weight
    case OpKind::attention_sinks_backward:  // dsinks, sinks, lse, delta
    case OpKind::attention_delta:           // delta, dout, out
      return one_over(x[1]);
    case OpKind::cross_entropy_sums:  // sums, logits, maximum, target
      return one_over(x[2]);
    case OpKind::rotate:  // x, position, cosine, sine
      return x[2].size(1) > 0 ? one_over(x[0]) : 0;

    case OpKind::sum_of_squares: {  // sums of blocks, then of those
      int64_t present = 0, bytes = 0;
      for (const Tensor& tensor : x) {
        if (tensor.empty()) continue;
        ++present;
        bytes += cuda_scratch::sum_of_squares(tensor.count());
      }
      if (present == 0) return 0;
      scratch(bytes);
      counts_.to_host_bytes += 8 * present;
      wait();
      call.result = 1;
      return 2 * cuda_scratch::squares_launches(present);
    }
    case OpKind::matmul: {  // c, a, b
      const bool nothing_to_sum = x[1].size(call.transposes[0] == Transpose::kYes ? 0 : 1) == 0;
      if (!x[0].empty() && !nothing_to_sum) ++counts_.products;
      return nothing_to_sum && !call.flag ? one_over(x[0]) : 0;
    }
    // Sums of runs of rows, then of those; rmsnorm_backward's dweight too.
    case OpKind::bias_backward:  // dbias, dy
      scratch(cuda_scratch::row_sums(x[1].size(0), x[1].size(1), accumulate_type(x[1].dtype())));
      return 2 * one_over(x[1]);
    case OpKind::rmsnorm_backward: {  // dx, dweight, dy, x, weight, rstd
      if (x[0].empty()) return 0;
      const int64_t channels = x[4].count();
      scratch(cuda_scratch::row_sums(x[0].count() / channels, channels, accumulate_type(x[3].dtype())));
      return 2;
    }
    case OpKind::embedding_backward:  // dtable, ids, dy: keys, the kernels of a bitonic sort, and the sums
      scratch(cuda_scratch::sort_keys(x[2].size(0)) * 8);
      return x[2].empty() ? 0 : 2 + cuda_scratch::sort_kernels(x[2].size(0));

    case OpKind::attention_forward: {  // the state's three, q, k, v, the mask's three
      if (!fused_attention_ || call.mask.kind == MaskShape::Kind::kIntervals) return one_over(x[3]);
      // cuDNN's kernel counts as one, and one merges what it gives.
      const int64_t begin = call.mask.kind == MaskShape::Kind::kFull ? call.mask.begin : 0;
      const Tensor seeing = x[3].slice(1, begin, x[3].size(1));
      scratch(cuda_scratch::fused_forward(seeing.size(0), seeing.size(1), seeing.size(2), seeing.size(3)));
      return 2 * one_over(seeing);
    }
    case OpKind::attention_backward:  // dq, dk, dv, q, k, v, …: by keys, then by queries
      return 2 * one_over(x[3]);
    case OpKind::attention_backward_whole: {
      const int64_t wanted =
          cuda_scratch::fused_backward(x[3].size(0), x[3].size(1), x[3].size(2), x[4].size(2), x[3].size(3));
      if (!fused_attention_ || call.mask.kind != MaskShape::Kind::kCausal || call.mask.empty_rows || wanted == 0)
        return 2 * one_over(x[3]);
      // cuDNN's, then dq, dk and dv are added.
      scratch(wanted);
      int64_t launched = one_over(x[3]);
      for (size_t gradient = 0; gradient < 3; ++gradient) {
        ++counts_.ops[name_of(OpKind::add)];
        launched += one_over(x[gradient]);
      }
      return launched;
    }
    case OpKind::adamw: {  // of each parameter: weight, master, exp_avg, exp_avg_sq, gradient
      int64_t present = 0;
      for (size_t master = 1; master < x.size(); master += 5) present += one_over(x[master]);
      return cuda_scratch::adamw_launches(present);
    }
  }
  throw InternalError("an op without a count");
}

}  // namespace carillon
