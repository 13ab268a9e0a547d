#include "tests/support/host_tensors.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "runtime/cuda/loader/library.h"

namespace carillon::testing {
namespace {

class HostTensors : public Backend {
 public:
  explicit HostTensors(std::unique_ptr<Backend> device) : device_(std::move(device)) {}

  DeviceDescription describe() const override { return device_->describe(); }
  Buffer allocate(size_t bytes) override { return Buffer::host(bytes); }
  void upload(Tensor to, Tensor host) override { copy(to, host); }
  void download(Tensor host, Tensor from) override { copy(host, from); }
  void synchronize() override { device_->synchronize(); }

  void fill(Tensor x, double value) override {
    run([&](Tensor a) { device_->fill(a, value); }, x);
  }
  void copy(Tensor y, Tensor x) override {
    run([&](Tensor a, Tensor b) { device_->copy(a, b); }, y, x);
  }
  void add(Tensor y, Tensor x) override {
    run([&](Tensor a, Tensor b) { device_->add(a, b); }, y, x);
  }
  void sum(Tensor y, Tensor a, Tensor b) override {
    run([&](Tensor c, Tensor d, Tensor e) { device_->sum(c, d, e); }, y, a, b);
  }
  void scale(Tensor x, double factor) override {
    run([&](Tensor a) { device_->scale(a, factor); }, x);
  }
  double sum_of_squares(std::span<const Tensor> tensors) override {
    double result = 0;
    const auto op = [&](std::span<const Tensor> there) { result = device_->sum_of_squares(there); };
    run_on_list(op, {tensors.begin(), tensors.end()});
    return result;
  }
  void matmul(Tensor c, Tensor a, Tensor b, Transpose ta, Transpose tb, bool accumulate) override {
    run([&](Tensor x, Tensor y, Tensor z) { device_->matmul(x, y, z, ta, tb, accumulate); }, c, a, b);
  }
  void add_bias(Tensor y, Tensor bias) override {
    run([&](Tensor a, Tensor b) { device_->add_bias(a, b); }, y, bias);
  }
  void bias_backward(Tensor dbias, Tensor dy) override {
    run([&](Tensor a, Tensor b) { device_->bias_backward(a, b); }, dbias, dy);
  }
  void embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) override {
    run([&](Tensor a, Tensor b, Tensor c) { device_->embedding_forward(a, b, c, first_row); }, y, ids, table);
  }
  void embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) override {
    run([&](Tensor a, Tensor b, Tensor c) { device_->embedding_backward(a, b, c, first_row); }, dtable, ids, dy);
  }
  void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon) override {
    run([&](Tensor a, Tensor b, Tensor c, Tensor d) { device_->rmsnorm_forward(a, b, c, d, epsilon); }, y, rstd, x,
        weight);
  }
  void rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                        bool accumulate) override {
    run([&](Tensor a, Tensor b, Tensor c, Tensor d, Tensor e,
            Tensor f) { device_->rmsnorm_backward(a, b, c, d, e, f, accumulate); },
        dx, dweight, dy, x, weight, rstd);
  }
  void rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) override {
    run([&](Tensor a, Tensor b, Tensor c, Tensor d) { device_->rotate(a, b, c, d, inverse); }, x, position, cosine,
        sine);
  }
  void swiglu_forward(Tensor y, Tensor gate, Tensor up) override {
    run([&](Tensor a, Tensor b, Tensor c) { device_->swiglu_forward(a, b, c); }, y, gate, up);
  }
  void swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up) override {
    run([&](Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, Tensor f) { device_->swiglu_backward(a, b, c, d, e, f); },
        dgate, dup, y, dy, gate, up);
  }
  void attention_begin(const AttentionState& s) override {
    run([&](Tensor a, Tensor b, Tensor c) { device_->attention_begin({a, b, c}); }, s.accumulator, s.maximum, s.sum);
  }
  void attention_forward(const AttentionState& s, Tensor q, Tensor k, Tensor v, const AttentionMask& m,
                         double scale) override {
    run(
        [&](Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, Tensor f, Tensor g, Tensor h, Tensor i) {
          device_->attention_forward({a, b, c}, d, e, f, {g, h, i}, scale);
        },
        s.accumulator, s.maximum, s.sum, q, k, v, m.query_index, m.first, m.key_index);
  }
  void attention_finish(Tensor out, Tensor lse, const AttentionState& s) override {
    run(
        [&](Tensor a, Tensor b, Tensor c, Tensor d, Tensor e) {
          device_->attention_finish(a, b, {c, d, e});
        },
        out, lse, s.accumulator, s.maximum, s.sum);
  }
  void attention_delta(Tensor delta, Tensor dout, Tensor out) override {
    run([&](Tensor a, Tensor b, Tensor c) { device_->attention_delta(a, b, c); }, delta, dout, out);
  }
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor q, Tensor k, Tensor v, Tensor dout, Tensor lse,
                          Tensor delta, const AttentionMask& m, double scale) override {
    run(
        [&](Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, Tensor f, Tensor g, Tensor h, Tensor i, Tensor j,
            Tensor o, Tensor p) {
          device_->attention_backward(a, b, c, d, e, f, g, h, i, {j, o, p}, scale);
        },
        dq, dk, dv, q, k, v, dout, lse, delta, m.query_index, m.first, m.key_index);
  }
  void cross_entropy_maximum(Tensor maximum, Tensor logits) override {
    run([&](Tensor a, Tensor b) { device_->cross_entropy_maximum(a, b); }, maximum, logits);
  }
  void cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) override {
    run([&](Tensor a, Tensor b, Tensor c, Tensor d) { device_->cross_entropy_sums(a, b, c, d, first_column); }, sums,
        logits, maximum, target);
  }
  void cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums, Tensor target,
                            Tensor weight, int64_t first_column) override {
    run([&](Tensor a, Tensor b, Tensor c, Tensor d, Tensor e, Tensor f,
            Tensor g) { device_->cross_entropy_finish(a, b, c, d, e, f, g, first_column); },
        loss, gradient, logits, maximum, sums, target, weight);
  }
  void adamw(std::span<const AdamWTensors> tensors, const AdamWStep& step) override {
    std::vector<Tensor> here;
    for (const AdamWTensors& x : tensors)
      here.insert(here.end(), {x.weight, x.master, x.exp_avg, x.exp_avg_sq, x.gradient});
    const auto op = [&](std::span<const Tensor> there) {
      std::vector<AdamWTensors> moved;
      for (size_t i = 0; i < tensors.size(); ++i)
        moved.push_back(
            {there[5 * i], there[5 * i + 1], there[5 * i + 2], there[5 * i + 3], there[5 * i + 4], tensors[i].decays});
      device_->adamw(moved, step);
    };
    run_on_list(op, here);
  }

 private:
  // Host memory from the first to the last byte of one tensor, or of several that overlap, and its place on the device.
  struct Range {
    char *begin, *end;
    Buffer buffer;
  };

  static Range range_of(const Tensor& x) {
    auto* begin = static_cast<char*>(x.raw());
    int64_t last = 0;
    for (int dim = 0; dim < x.rank(); ++dim) last += (x.size(dim) - 1) * x.stride(dim);
    return {begin, begin + (last + 1) * static_cast<int64_t>(size_of(x.dtype())), {}};
  }

  // The same view of the device's copy.
  static Tensor moved(const Tensor& x, const std::vector<Range>& ranges) {
    if (!x || x.empty()) return x;
    auto* at = static_cast<char*>(x.raw());
    const auto range =
        std::find_if(ranges.begin(), ranges.end(), [&](const Range& r) { return r.begin <= at && at < r.end; });
    return x.over(static_cast<char*>(range->buffer.data()) + (at - range->begin));
  }

  template <class Op, class... Tensors>
  void run(Op op, const Tensors&... tensors) {
    with_copies({Tensor(tensors)...}, [&](const std::vector<Range>& ranges) { op(moved(tensors, ranges)...); });
  }
  template <class Op>
  void run_on_list(Op op, const std::vector<Tensor>& tensors) {
    with_copies(tensors, [&](const std::vector<Range>& ranges) {
      std::vector<Tensor> there;
      for (const Tensor& x : tensors) there.push_back(moved(x, ranges));
      op(there);
    });
  }

  template <class Body>
  void with_copies(const std::vector<Tensor>& tensors, Body body) {
    std::vector<Range> ranges;
    for (const Tensor& x : tensors)
      if (x && !x.empty()) ranges.push_back(range_of(x));
    std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (Range& range : ranges) {
      if (!merged.empty() && range.begin < merged.back().end)
        merged.back().end = std::max(merged.back().end, range.end);
      else
        merged.push_back(std::move(range));
    }
    const auto bytes = [](const Range& range, void* data) {
      return Tensor(data, DType::kUInt8, {range.end - range.begin});
    };
    for (Range& range : merged) {
      range.buffer = device_->allocate(static_cast<size_t>(range.end - range.begin));
      device_->upload(bytes(range, range.buffer.data()), bytes(range, range.begin));
    }
    body(merged);
    for (const Range& range : merged) device_->download(bytes(range, range.begin), bytes(range, range.buffer.data()));
  }

  std::unique_ptr<Backend> device_;
};

}  // namespace

std::unique_ptr<Backend> on_host_tensors(std::unique_ptr<Backend> device) {
  if (device->unified()) return device;
  return std::make_unique<HostTensors>(std::move(device));
}

std::vector<std::string> kinds_under_test() {
  const char* device = std::getenv("CARILLON_TEST_DEVICE");
  if (device != nullptr && std::string_view(device) == "cuda") return {"cuda"};
  return make_backend({.device = "cpu"})->describe().available;
}

std::string why_skipped(const std::string& kind) {
  const std::string problem = is_cuda(kind) ? survey_cuda().problem : "";
  return problem.empty() ? "" : "ALL TESTS SKIPPED: " + problem;
}

bool enough_devices(int ranks) {
  const size_t devices = survey_cuda().devices.size();
  if (devices >= static_cast<size_t>(ranks)) return true;
  fmt::print("left out: {} ranks, there are {} devices\n", ranks, devices);
  return false;
}

std::unique_ptr<Backend> make_under_test(const std::string& kind, int threads) {
  if (is_cuda(kind)) return on_host_tensors(make_backend({.device = "cuda"}));
  return make_backend({.device = "cpu", .threads = threads, .instruction_set = kind});
}

}  // namespace carillon::testing
