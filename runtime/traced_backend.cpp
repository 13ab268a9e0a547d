#include "runtime/traced_backend.h"

#include <algorithm>

#include "runtime/forwarding_backend.h"
#include "runtime/trace.h"

namespace carillon {
namespace {

std::vector<int64_t> on_host(Backend& backend, Tensor indices) {
  std::vector<int64_t> values(static_cast<size_t>(indices.count()));
  backend.download(Tensor(values.data(), DType::kInt64, indices.shape()), indices);
  return values;
}

// Pairs of query and key that see each other, over the batch, by the mask of an attention op.
double visible_pairs(Backend& backend, const OpCall& call) {
  const auto mask = std::span(call.operands).subspan(call.mask_at, 3);
  const Tensor query_index = mask[0], first_key = mask[1], key_index = mask[2];
  const int64_t batch = first_key.size(0), rows = first_key.size(1);
  const std::vector<int64_t> first = on_host(backend, first_key), query = on_host(backend, query_index),
                             key = on_host(backend, key_index);
  int64_t pairs = 0;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < rows; ++i) {
      const auto begin = std::lower_bound(key.begin(), key.end(), first[static_cast<size_t>(b * rows + i)]);
      const auto end = std::upper_bound(key.begin(), key.end(), query[static_cast<size_t>(i)]);
      pairs += std::max<int64_t>(0, end - begin);
    }
  return static_cast<double>(pairs);
}

// The name of the op's span; for products it includes the shape.
std::string title(const OpCall& call) {
  if (call.op != OpKind::matmul) return name_of(call.op);
  const Tensor &c = call.operands[0], &a = call.operands[1];
  const bool first = call.transposes[0] == Transpose::kYes, second = call.transposes[1] == Transpose::kYes;
  return fmt::format("matmul {} [{} {} {}]",
                     second  ? "x*W'"
                     : first ? "dy'*x"
                             : "dy*W",
                     c.size(0), c.size(1), a.size(first ? 0 : 1));
}

double flop_of(Backend& backend, const OpCall& call) {
  const std::vector<Tensor>& x = call.operands;
  switch (call.op) {
    case OpKind::matmul:
      return 2.0 * static_cast<double>(x[0].count()) *
             static_cast<double>(x[1].size(call.transposes[0] == Transpose::kYes ? 0 : 1));
    case OpKind::attention_forward:
    case OpKind::attention_backward: {
      const double a_pair = call.op == OpKind::attention_forward ? 4 : 10;
      return a_pair * visible_pairs(backend, call) * static_cast<double>(x[3].size(2) * x[3].size(3));  // of q
    }
    default:
      return 0;  // not counted
  }
}

// The span of one op. If ops return before they have run, the span waits for its op, so that it measures the whole op
// and nothing else.
class OpSpan {
 public:
  OpSpan(Backend& backend, std::string_view name, double flop = 0) : backend_(backend), span_(name, flop) {}
  ~OpSpan() {
    if (backend_.queue() == nullptr) return;
    try {
      backend_.synchronize();
    } catch (const Error&) {  // the next call that waits reports it again
    }
  }
  OpSpan(const OpSpan&) = delete;

 private:
  Backend& backend_;
  TraceSpan span_;
};

class TracedBackend : public ForwardingBackend {
 public:
  explicit TracedBackend(std::unique_ptr<Backend> backend) : ForwardingBackend(std::move(backend)) {}

  void upload(Tensor device, Tensor host) override {
    const OpSpan span(inner(), "upload");
    inner().upload(device, host);
  }
  void download(Tensor host, Tensor device) override {
    const OpSpan span(inner(), "download");
    inner().download(host, device);
  }
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override {
    const TraceSpan span("start_upload");
    return inner().start_upload(device, host);
  }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    const TraceSpan span("start_download");
    return inner().start_download(host, device);
  }

 private:
  void around(OpCall& call, const std::function<void()>& run) override {
    const OpSpan span(inner(), title(call), flop_of(inner(), call));
    run();
  }
};

}  // namespace

std::unique_ptr<Backend> make_traced_backend(std::unique_ptr<Backend> backend) {
  return std::make_unique<TracedBackend>(std::move(backend));
}

}  // namespace carillon
