#include "tests/support/isolated_backend.h"

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <vector>

namespace carillon::testing {
namespace {

class IsolatedBackend : public Backend {
 public:
  explicit IsolatedBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  DeviceDescription describe() const override {
    DeviceDescription device = inner_->describe();
    device.name = "isolated " + device.name;
    return device;
  }
  bool unified() const override { return false; }
  bool holds(const void* pointer) const override {
    const auto after = regions_.upper_bound(static_cast<const char*>(pointer));
    if (after == regions_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return static_cast<const char*>(pointer) < begin + bytes;
  }
  Buffer allocate(size_t bytes) override {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t rounded = (std::max<size_t>(bytes, 1) + page - 1) / page * page;
    void* data = mmap(nullptr, rounded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) fail(ExitCode::kInputOutput, "no memory for {} bytes, isolated backend, give more", bytes);
    regions_[static_cast<char*>(data)] = rounded;
    return Buffer(data, bytes, [this, rounded](void* pointer) {
      regions_.erase(static_cast<char*>(pointer));
      munmap(pointer, rounded);
    });
  }
  void upload(Tensor device, Tensor host) override {
    require_host("upload", host);
    CHECK(device.packed(), "uploads are of packed tensors", describe_tensor(device));
    on("upload", {device}, [&] { inner_->upload(device, host); });
  }
  void download(Tensor host, Tensor device) override {
    require_host("download", host);
    CHECK(device.packed(), "downloads are of packed tensors", describe_tensor(device));
    on("download", {device}, [&] { inner_->download(host, device); });
  }
  void synchronize() override {}

  void fill(Tensor x, double value) override {
    on("fill", {x}, [&] { inner_->fill(x, value); });
  }
  void copy(Tensor y, Tensor x) override {
    on("copy", {y, x}, [&] { inner_->copy(y, x); });
  }
  void add(Tensor y, Tensor x) override {
    on("add", {y, x}, [&] { inner_->add(y, x); });
  }
  void sum(Tensor y, Tensor a, Tensor b) override {
    on("sum", {y, a, b}, [&] { inner_->sum(y, a, b); });
  }
  void scale(Tensor x, double factor) override {
    on("scale", {x}, [&] { inner_->scale(x, factor); });
  }
  double sum_of_squares(std::span<const Tensor> tensors) override {
    double result = 0;
    on("sum_of_squares", {tensors.begin(), tensors.end()}, [&] { result = inner_->sum_of_squares(tensors); });
    return result;
  }
  void matmul(Tensor c, Tensor a, Tensor b, Transpose ta, Transpose tb, bool accumulate) override {
    on("matmul", {c, a, b}, [&] { inner_->matmul(c, a, b, ta, tb, accumulate); });
  }
  void add_bias(Tensor y, Tensor bias) override {
    on("add_bias", {y, bias}, [&] { inner_->add_bias(y, bias); });
  }
  void bias_backward(Tensor dbias, Tensor dy) override {
    on("bias_backward", {dbias, dy}, [&] { inner_->bias_backward(dbias, dy); });
  }
  void embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) override {
    on("embedding_forward", {y, ids, table}, [&] { inner_->embedding_forward(y, ids, table, first_row); });
  }
  void embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) override {
    on("embedding_backward", {dtable, ids, dy}, [&] { inner_->embedding_backward(dtable, ids, dy, first_row); });
  }
  void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon) override {
    on("rmsnorm_forward", {y, rstd, x, weight}, [&] { inner_->rmsnorm_forward(y, rstd, x, weight, epsilon); });
  }
  void rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                        bool accumulate) override {
    on("rmsnorm_backward", {dx, dweight, dy, x, weight, rstd},
       [&] { inner_->rmsnorm_backward(dx, dweight, dy, x, weight, rstd, accumulate); });
  }
  void rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) override {
    on("rotate", {x, position, cosine, sine}, [&] { inner_->rotate(x, position, cosine, sine, inverse); });
  }
  void swiglu_forward(Tensor y, Tensor gate, Tensor up) override {
    on("swiglu_forward", {y, gate, up}, [&] { inner_->swiglu_forward(y, gate, up); });
  }
  void swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up) override {
    on("swiglu_backward", {dgate, dup, y, dy, gate, up}, [&] { inner_->swiglu_backward(dgate, dup, y, dy, gate, up); });
  }
  void attention_begin(const AttentionState& state) override {
    on("attention_begin", {state.accumulator, state.maximum, state.sum}, [&] { inner_->attention_begin(state); });
  }
  void attention_forward(const AttentionState& state, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                         double scale) override {
    on("attention_forward",
       {state.accumulator, state.maximum, state.sum, q, k, v, mask.query_index, mask.first, mask.key_index},
       [&] { inner_->attention_forward(state, q, k, v, mask, scale); });
  }
  void attention_finish(Tensor out, Tensor lse, const AttentionState& state) override {
    on("attention_finish", {out, lse, state.accumulator, state.maximum, state.sum},
       [&] { inner_->attention_finish(out, lse, state); });
  }
  void attention_delta(Tensor delta, Tensor dout, Tensor out) override {
    on("attention_delta", {delta, dout, out}, [&] { inner_->attention_delta(delta, dout, out); });
  }
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor lse,
                          Tensor delta, const AttentionMask& mask, double scale) override {
    on("attention_backward", {dq, dk, dv, q, k, v, dout, lse, delta, mask.query_index, mask.first, mask.key_index},
       [&] { inner_->attention_backward(dq, dk, dv, q, k, v, dout, lse, delta, mask, scale); });
  }
  void cross_entropy_maximum(Tensor maximum, Tensor logits) override {
    on("cross_entropy_maximum", {maximum, logits}, [&] { inner_->cross_entropy_maximum(maximum, logits); });
  }
  void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) override {
    on("cross_entropy_sums", {sums, logits, maximum, target},
       [&] { inner_->cross_entropy_sums(sums, logits, maximum, target, first_column); });
  }
  void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums, Tensor target,
                            Tensor weight, int64_t first_column) override {
    on("cross_entropy_finish", {loss, gradient, logits, maximum, sums, target, weight},
       [&] { inner_->cross_entropy_finish(loss, gradient, logits, maximum, sums, target, weight, first_column); });
  }
  void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) override {
    std::vector<Tensor> operands;
    for (const AdamWTensors& x : tensors)
      operands.insert(operands.end(), {x.weight, x.master, x.exp_avg, x.exp_avg_sq, x.gradient});
    on("adamw", operands, [&] { inner_->adamw(tensors, step); });
  }

 private:
  static std::string describe_tensor(const Tensor& tensor) { return carillon::describe(tensor); }
  void require_host(const char* op, Tensor host) const {
    CHECK(host.empty() || !holds(host.raw()), "device memory taken for the host's", op, describe_tensor(host));
  }
  // Opens the pages for `body` and closes them again.
  template <class Body>
  void on(const char* op, const std::vector<Tensor>& operands, Body body) {
    for (const Tensor& operand : operands)
      CHECK(operand.empty() || holds(operand.raw()), "host memory handed to an op of the device", op,
            describe_tensor(operand));
    struct Opened {
      const std::map<const char*, size_t>& regions;
      explicit Opened(const std::map<const char*, size_t>& all) : regions(all) { protect(PROT_READ | PROT_WRITE); }
      ~Opened() { protect(PROT_NONE); }
      void protect(int how) const {
        for (const auto& [begin, bytes] : regions) mprotect(const_cast<char*>(begin), bytes, how);
      }
    } const opened(regions_);
    body();
  }

  std::unique_ptr<Backend> inner_;
  std::map<const char*, size_t> regions_;
};

}  // namespace

std::unique_ptr<Backend> make_isolated_backend(std::unique_ptr<Backend> inner) {
  return std::make_unique<IsolatedBackend>(std::move(inner));
}

std::unique_ptr<Backend> make_test_backend(BackendOptions options) {
  const bool isolated = options.device.starts_with("isolated");
  if (isolated) options.device = options.device == "isolated-cpu" ? "cpu" : "reference";
  auto backend = make_backend(options);
  return isolated ? make_isolated_backend(std::move(backend)) : std::move(backend);
}

}  // namespace carillon::testing
