#include "runtime/traced_backend.h"

#include <algorithm>

#include "runtime/trace.h"

namespace carillon {
namespace {

std::vector<int64_t> on_host(Backend& backend, Tensor indices) {
  std::vector<int64_t> values(static_cast<size_t>(indices.count()));
  backend.download(Tensor(values.data(), DType::kInt64, indices.shape()), indices);
  return values;
}

// Pairs of query and key that see each other, over the batch.
double visible_pairs(Backend& backend, const AttentionMask& mask) {
  const int64_t batch = mask.first.size(0), rows = mask.first.size(1);
  const std::vector<int64_t> first = on_host(backend, mask.first), query = on_host(backend, mask.query_index),
                             key = on_host(backend, mask.key_index);
  int64_t pairs = 0;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < rows; ++i) {
      const auto begin = std::lower_bound(key.begin(), key.end(), first[static_cast<size_t>(b * rows + i)]);
      const auto end = std::upper_bound(key.begin(), key.end(), query[static_cast<size_t>(i)]);
      pairs += std::max<int64_t>(0, end - begin);
    }
  return static_cast<double>(pairs);
}

// A span of one op. Where ops return before they have run, it ends when this one has: its time is then its own, and
// none of it is hidden behind the next.
class OpSpan {
 public:
  OpSpan(Backend& backend, std::string_view name, double flop = 0) : backend_(backend), span_(name, flop) {}
  ~OpSpan() {
    if (backend_.queue() == nullptr) return;
    try {
      backend_.synchronize();
    } catch (const Error&) {  // the next call that waits meets it again
    }
  }
  OpSpan(const OpSpan&) = delete;

 private:
  Backend& backend_;
  TraceSpan span_;
};

class TracedBackend : public Backend {
 public:
  explicit TracedBackend(std::unique_ptr<Backend> backend) : inner_(std::move(backend)) {}

  DeviceDescription describe() const override { return inner_->describe(); }
  Buffer allocate(size_t bytes) override { return inner_->allocate(bytes); }
  void upload(Tensor device, Tensor host) override {
    const OpSpan span(*inner_, "upload");
    inner_->upload(device, host);
  }
  void download(Tensor host, Tensor device) override {
    const OpSpan span(*inner_, "download");
    inner_->download(host, device);
  }
  void synchronize() override { inner_->synchronize(); }
  void* queue() override { return inner_->queue(); }
  bool unified() const override { return inner_->unified(); }
  DeviceMemory memory() override { return inner_->memory(); }
  bool holds(const void* pointer) const override { return inner_->holds(pointer); }
  Buffer allocate_host(size_t bytes) override { return inner_->allocate_host(bytes); }
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override {
    const TraceSpan span("start_upload");
    return inner_->start_upload(device, host);
  }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    const TraceSpan span("start_download");
    return inner_->start_download(host, device);
  }

  void fill(Tensor x, double value) override {
    const OpSpan span(*inner_, "fill");
    inner_->fill(x, value);
  }
  void copy(Tensor y, Tensor x) override {
    const OpSpan span(*inner_, "copy");
    inner_->copy(y, x);
  }
  void add(Tensor y, Tensor x) override {
    const OpSpan span(*inner_, "add");
    inner_->add(y, x);
  }
  void sum(Tensor y, Tensor a, Tensor b) override {
    const OpSpan span(*inner_, "sum");
    inner_->sum(y, a, b);
  }
  void scale(Tensor x, double factor) override {
    const OpSpan span(*inner_, "scale");
    inner_->scale(x, factor);
  }
  double sum_of_squares(std::span<const Tensor> tensors) override {
    const OpSpan span(*inner_, "sum_of_squares");
    return inner_->sum_of_squares(tensors);
  }

  void matmul(Tensor c, Tensor a, Tensor b, Transpose ta, Transpose tb, bool accumulate) override {
    const int64_t rows = c.size(0), columns = c.size(1), inner = a.size(ta == Transpose::kYes ? 0 : 1);
    const OpSpan span(*inner_,
                      fmt::format("matmul {} [{} {} {}]",
                                  tb == Transpose::kYes   ? "x*W'"
                                  : ta == Transpose::kYes ? "dy'*x"
                                                          : "dy*W",
                                  rows, columns, inner),
                      2.0 * static_cast<double>(rows * columns) * static_cast<double>(inner));
    inner_->matmul(c, a, b, ta, tb, accumulate);
  }
  void add_bias(Tensor y, Tensor bias) override {
    const OpSpan span(*inner_, "add_bias");
    inner_->add_bias(y, bias);
  }
  void bias_backward(Tensor dbias, Tensor dy) override {
    const OpSpan span(*inner_, "bias_backward");
    inner_->bias_backward(dbias, dy);
  }
  void embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) override {
    const OpSpan span(*inner_, "embedding_forward");
    inner_->embedding_forward(y, ids, table, first_row);
  }
  void embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) override {
    const OpSpan span(*inner_, "embedding_backward");
    inner_->embedding_backward(dtable, ids, dy, first_row);
  }
  void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon) override {
    const OpSpan span(*inner_, "rmsnorm_forward");
    inner_->rmsnorm_forward(y, rstd, x, weight, epsilon);
  }
  void rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                        bool accumulate) override {
    const OpSpan span(*inner_, "rmsnorm_backward");
    inner_->rmsnorm_backward(dx, dweight, dy, x, weight, rstd, accumulate);
  }
  void rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) override {
    const OpSpan span(*inner_, "rotate");
    inner_->rotate(x, position, cosine, sine, inverse);
  }
  void swiglu_forward(Tensor y, Tensor gate, Tensor up) override {
    const OpSpan span(*inner_, "swiglu_forward");
    inner_->swiglu_forward(y, gate, up);
  }
  void swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up) override {
    const OpSpan span(*inner_, "swiglu_backward");
    inner_->swiglu_backward(dgate, dup, y, dy, gate, up);
  }

  void attention_begin(const AttentionState& state) override {
    const OpSpan span(*inner_, "attention_begin");
    inner_->attention_begin(state);
  }
  void attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                         double scale) override {
    const OpSpan span(*inner_, "attention_forward",
                      4 * visible_pairs(*inner_, mask) * static_cast<double>(q.size(2) * q.size(3)));
    inner_->attention_forward(state, q, k, v, mask, scale);
  }
  void attention_finish(Tensor out, Tensor lse, const AttentionState& state) override {
    const OpSpan span(*inner_, "attention_finish");
    inner_->attention_finish(out, lse, state);
  }
  void attention_delta(Tensor delta, Tensor dout, Tensor out) override {
    const OpSpan span(*inner_, "attention_delta");
    inner_->attention_delta(delta, dout, out);
  }
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor lse,
                          Tensor delta, const AttentionMask& mask, double scale) override {
    const OpSpan span(*inner_, "attention_backward",
                      10 * visible_pairs(*inner_, mask) * static_cast<double>(q.size(2) * q.size(3)));
    inner_->attention_backward(dq, dk, dv, q, k, v, dout, lse, delta, mask, scale);
  }
  void attention_backward_whole(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor out,
                                Tensor lse, Tensor delta, const AttentionMask& mask, double scale) override {
    const OpSpan span(*inner_, "attention_backward",
                      10 * visible_pairs(*inner_, mask) * static_cast<double>(q.size(2) * q.size(3)));
    inner_->attention_backward_whole(dq, dk, dv, q, k, v, dout, out, lse, delta, mask, scale);
  }

  void cross_entropy_maximum(Tensor maximum, Tensor logits) override {
    const OpSpan span(*inner_, "cross_entropy_maximum");
    inner_->cross_entropy_maximum(maximum, logits);
  }
  void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) override {
    const OpSpan span(*inner_, "cross_entropy_sums");
    inner_->cross_entropy_sums(sums, logits, maximum, target, first_column);
  }
  void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums, Tensor target,
                            Tensor weight, int64_t first_column) override {
    const OpSpan span(*inner_, "cross_entropy_finish");
    inner_->cross_entropy_finish(loss, gradient, logits, maximum, sums, target, weight, first_column);
  }
  void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) override {
    const OpSpan span(*inner_, "adamw");
    inner_->adamw(tensors, step);
  }

 private:
  std::unique_ptr<Backend> inner_;
};

}  // namespace

std::unique_ptr<Backend> make_traced_backend(std::unique_ptr<Backend> backend) {
  return std::make_unique<TracedBackend>(std::move(backend));
}

}  // namespace carillon
