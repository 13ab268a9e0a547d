#include "launch/plan/counting_backend.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "launch/plan/counted_sizes.h"
#include "runtime/cuda/attention/fused_sizes.h"
#include "runtime/cuda/staged_sizes.h"

namespace carillon {
namespace {

constexpr size_t kAddressable = size_t{1} << 46;  // half of a process's 128 TiB

// Reserves addresses that use memory only where they are written, with no memory committed.
Buffer reserve(size_t bytes, std::function<void(void*)> forget) {
  const size_t wanted = std::max<size_t>(bytes, 1);
  void* data = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED && wanted >= kAddressable)
    fail(ExitCode::kUsage,
         "tensors of {} TiB on one rank are more than can be addressed, in the configuration, use more ranks or a "
         "smaller data.sequence_length or train.micro_batch_size",
         wanted >> 40);
  if (data == MAP_FAILED)
    fail(ExitCode::kInputOutput,
         "cannot reserve {} MiB of addresses to count the ops of a step, on this machine, raise its limit (ulimit -v)",
         wanted >> 20);
  return {data, bytes, [wanted, forget = std::move(forget)](void* pointer) {
            forget(pointer);
            munmap(pointer, wanted);
          }};
}

struct RecordedCopy : Backend::Copy {
  RecordedCopy(StepRecorder& to, int64_t number) : recorder(to), transfer(number) {}
  void wait() override { recorder.wait(transfer); }
  StepRecorder& recorder;
  int64_t transfer;
};

int64_t pairs_of(const MaskPiece& piece) {
  return piece.kind == MaskPiece::Kind::kCausal ? piece.rows * (piece.rows + 1) / 2 : piece.rows * piece.keys;
}

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
  for (const auto& [what, one] : other.work) {
    OpWork& all = work[what];
    all.calls += one.calls, all.flop += one.flop, all.bytes += one.bytes;
  }
  launches += other.launches, products += other.products, allocations += other.allocations;
  to_device_bytes += other.to_device_bytes, to_host_bytes += other.to_host_bytes;
  scratch_bytes = std::max(scratch_bytes, other.scratch_bytes);
}

DeviceCounts CountingBackend::counts() const {
  DeviceCounts counts = counts_;
  for (size_t op = 0; op < kOpKinds; ++op)
    if (ops_[op] > 0) counts.ops[name_of(static_cast<OpKind>(op))] = ops_[op];
  return counts;
}

void CountingBackend::begin_micro_step() {
  recorder_.begin_micro_step();
  logits_gradient_ = nullptr;
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
  pairs_.clear();
  recorder_.call();
  counts_.to_device_bytes += static_cast<int64_t>(device.bytes());
  if (!cuda::is_staged(device, host)) wait();
}

void CountingBackend::download(Tensor host, Tensor device) {
  move(host, device);
  recorder_.call();
  counts_.to_host_bytes += static_cast<int64_t>(device.bytes());
  wait();
}

std::unique_ptr<Backend::Copy> CountingBackend::start_copy(Exchange exchange, Tensor device) {
  return std::make_unique<RecordedCopy>(recorder_, recorder_.start(exchange, bytes_of(device), 1, 1, 1));
}

std::unique_ptr<Backend::Copy> CountingBackend::start_upload(Tensor device, Tensor) {
  counts_.to_device_bytes += static_cast<int64_t>(device.bytes());
  return start_copy(Exchange::kToDevice, device);
}

std::unique_ptr<Backend::Copy> CountingBackend::start_download(Tensor, Tensor device) {
  counts_.to_host_bytes += static_cast<int64_t>(device.bytes());
  return start_copy(Exchange::kToHost, device);
}

void CountingBackend::around(OpCall& call, const std::function<void()>&) {
  ++ops_[static_cast<size_t>(call.op)];
  counts_.launches += kernels(call);
  count_work(call);
  record(call);
}

void CountingBackend::count_work(const OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  std::string what = name_of(call.op);
  double flop = 0, bytes = moved_bytes(call);
  if (call.op == OpKind::matmul) {
    const int64_t inner = x[1].size(call.transposes[0] == Transpose::kYes ? 0 : 1);
    what = fmt::format("{} {} x {} x {}", what, x[0].size(0), inner, x[0].size(1));
    flop = 2 * static_cast<double>(x[0].count()) * static_cast<double>(inner);
    bytes = bytes_of({x[0], x[1], x[2]}) + (call.flag ? bytes_of(x[0]) : 0);
  } else if (call.op == OpKind::attention_forward || call.op == OpKind::attention_backward) {
    const bool forward = call.op == OpKind::attention_forward;
    const std::vector<MaskPiece> all = pieces(call);
    const bool fused = std::any_of(all.begin(), all.end(), is_whole);
    what = fmt::format("{} {} {} x {}", what, fused ? "cudnn" : "native", x[3].size(1), x[4].size(1));
    flop = (forward ? 4 : 10) * static_cast<double>(visible_pairs(call) * x[3].size(2) * x[3].size(3));
    // Forward: q and the state; backward: q, dout and dq; and k, v and their gradients.
    bytes = bytes_of({x[0], x[3], x[4], x[5]}) + bytes_of(x[0]) + (forward ? 0 : bytes_of({x[6], x[1], x[2]}));
  }
  OpWork& work = counts_.work[what];
  ++work.calls, work.flop += flop, work.bytes += bytes;
}

// ---- the record -----------------------------------------------------------------------------------------------------

void CountingBackend::record(const OpCall& call) {
  recorder_.call();
  recorder_.moved(moved_bytes(call));
  const std::vector<Tensor>& x = call.operands;
  switch (call.op) {
    case OpKind::matmul:
      return record_product(call);
    case OpKind::attention_begin:
      attention_begun_ = true;
      return recorder_.attention_pass(recorder_.part() == StepPart::kForward ? StepPart::kForward
                                                                             : StepPart::kRecompute);
    case OpKind::attention_delta:
      return recorder_.attention_pass(StepPart::kBackward);
    case OpKind::attention_forward:
    case OpKind::attention_backward:
      attention_begun_ = false;
      if (call.first)
        recorder_.attention_pass(call.op == OpKind::attention_backward    ? StepPart::kBackward
                                 : recorder_.part() == StepPart::kForward ? StepPart::kForward
                                                                          : StepPart::kRecompute);
      return record_attention(call);
    case OpKind::cross_entropy_maximum:  // maximum, logits: the product that gave them is the head's
      if (StepEvent* product = recorder_.last_product(); product != nullptr && !x[1].empty())
        product->part = StepPart::kLoss;
      return;
    case OpKind::cross_entropy_finish:  // loss, gradient, …
      if (!x[1]) return;
      logits_gradient_ = x[1].raw();
      return recorder_.loss_is_over();
    case OpKind::rmsnorm_backward:  // the last norm's: other tensors may lie where the logits did
      logits_gradient_ = nullptr;
      return;
    default:
      return;
  }
}

// After the loss, products with the gradient of the logits are the head's, and products of the forward form are
// recomputation.
void CountingBackend::record_product(const OpCall& call) {
  const Tensor &c = call.operands[0], &a = call.operands[1];
  const int64_t inner = a.size(call.transposes[0] == Transpose::kYes ? 0 : 1);
  StepPart part = recorder_.part();
  if (part == StepPart::kBackward) {
    const bool of_loss = logits_gradient_ != nullptr && a.raw() == logits_gradient_;
    if (!of_loss) logits_gradient_ = nullptr;
    const bool forward = call.transposes[0] == Transpose::kNo && call.transposes[1] == Transpose::kYes;
    part = of_loss ? StepPart::kLoss : forward ? StepPart::kRecompute : StepPart::kBackward;
  }
  recorder_.product(c.size(0), inner, c.size(1), part);
}

// 4 FLOP per pair and channel forward, 10 backward.
void CountingBackend::record_attention(const OpCall& call) {
  const Tensor& q = call.operands[3];
  const bool forward = call.op == OpKind::attention_forward;
  const double width = static_cast<double>(q.size(2) * q.size(3));
  const StepPart part = !forward                                 ? StepPart::kBackward
                        : recorder_.part() == StepPart::kForward ? StepPart::kForward
                                                                 : StepPart::kRecompute;
  const double flop = (forward ? 4 : 10) * width, pairs = static_cast<double>(visible_pairs(call));
  double whole = 0;
  for (const MaskPiece& piece : pieces(call))
    if (is_whole(piece)) whole += static_cast<double>(pairs_of(piece) * q.size(0));
  // Padding rows see nothing in any piece.
  whole = std::min(whole, pairs);
  recorder_.attention(q.size(1), q.size(3), flop * whole, part, true);
  recorder_.attention(q.size(1), q.size(3), flop * (pairs - whole), part, false);
}

// As runtime/cuda/attention/attention.cpp decides.
std::vector<MaskPiece> CountingBackend::pieces(const OpCall& call) const {
  const Tensor &q = call.operands[3], &k = call.operands[4];
  const bool fused =
      fused_attention_ && q.dtype() == DType::kBFloat16 && cuda::fused_head_size(q.size(3)) && !q.empty() && !k.empty();
  return pieces_of(fused ? call.mask : MaskShape{}, q.size(1), k.size(1));
}
std::vector<MaskPiece> CountingBackend::blocks(const OpCall& call) const {
  const Tensor &q = call.operands[3], &k = call.operands[4];
  std::vector<MaskPiece> blocks;
  for (const MaskPiece& piece : pieces(call)) {
    if (!is_whole(piece)) {
      blocks.push_back(piece);
      continue;
    }
    const std::vector<MaskPiece> parts = cut(piece, cuda::fused_edge(q.size(0), q.size(2), k.size(2), q.size(3)));
    blocks.insert(blocks.end(), parts.begin(), parts.end());
  }
  return blocks;
}

// Both sides increase, so two marks go through the keys while the rows go by.
int64_t CountingBackend::visible_pairs(const OpCall& call) {
  const auto mask = std::span(call.operands).subspan(call.mask_at, 3);
  const Tensor query = mask[0], first = mask[1], key = mask[2];
  const auto [known, fresh] = pairs_.try_emplace({query.raw(), first.raw(), key.raw(), key.count()}, 0);
  if (!fresh || first.empty() || key.empty()) return known->second;
  const int64_t batch = first.size(0), rows = first.size(1), keys = key.count();
  const auto* indices = query.data<int64_t>();
  const auto* begins = key.data<int64_t>();
  int64_t pairs = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* from = first.data<int64_t>() + b * rows;
    int64_t begin = 0, end = 0;
    for (int64_t row = 0; row < rows; ++row) {
      while (begin < keys && begins[begin] < from[row]) ++begin;
      while (end < keys && begins[end] <= indices[row]) ++end;
      pairs += std::max<int64_t>(0, end - begin);
    }
  }
  return known->second = pairs;
}

}  // namespace carillon
