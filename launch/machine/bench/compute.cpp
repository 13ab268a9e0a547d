// Matrix products and attention, in the forms and sizes that occur in a step.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "launch/machine/bench/bench.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

// The three products of a linear layer with weight W [out, in] on x [rows, in].
enum class Form { kForward, kInputGradient, kWeightGradient };  // x·Wᵀ, dy·W, dyᵀ·x

struct ProductCase {
  Form form;
  int64_t rows, inner, columns;
  double flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(inner) * static_cast<double>(columns);
  }
  int64_t bytes() const { return (rows * inner + inner * columns + rows * columns) * 8 + (1 << 12); }  // for any type
};

// Widths of a 135M model (576, 1536), a 1B model (2048) and an 8B model (4096, 14336), with typical token counts of a
// rank as rows. A profile distinguishes shapes but not forms, so each shape is listed once, in one of its forms. The
// smaller shapes have fewer tiles than a device has multiprocessors, so a device gets larger ones too.
std::vector<ProductCase> product_cases(bool device) {
  using enum Form;
  std::vector<ProductCase> cases = {
      {kForward, 512, 576, 576},          {kForward, 512, 576, 1536},         {kForward, 4096, 576, 1536},
      {kForward, 512, 2048, 2048},        {kForward, 4096, 2048, 2048},       {kForward, 512, 4096, 4096},
      {kForward, 4096, 4096, 4096},       {kInputGradient, 512, 1536, 576},   {kInputGradient, 4096, 1536, 576},
      {kInputGradient, 2048, 2048, 2048}, {kInputGradient, 1024, 4096, 4096}, {kWeightGradient, 576, 4096, 576},
      {kWeightGradient, 1536, 4096, 576}, {kWeightGradient, 2048, 512, 2048}, {kWeightGradient, 4096, 2048, 4096},
  };
  if (device)
    cases.insert(cases.end(), {{kForward, 8192, 4096, 4096},
                               {kForward, 8192, 4096, 14336},
                               {kInputGradient, 8192, 14336, 4096},
                               {kWeightGradient, 4096, 8192, 4096},
                               {kWeightGradient, 4096, 8192, 14336},
                               {kForward, 16384, 8192, 8192}});
  std::stable_sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.flops() < b.flops(); });
  return cases;
}

// Memory for the tensors of one case. The code that runs the case allocates them: a first pass measures, a second
// allocates.
class CaseTensors {
 public:
  explicit CaseTensors(Backend& backend) : backend_(backend) {}
  void make(size_t bytes) { arena_ = Arena(backend_.allocate(bytes)); }
  Tensor operator()(DType dtype, std::initializer_list<int64_t> shape) {
    const Tensor x = arena_.allocate("bench", dtype, shape);
    if (!arena_.measuring()) fill_with_noise(x);
    return x;
  }
  size_t bytes() const { return arena_.peak(); }

 private:
  // Fills a tensor with noise. Equal numbers would run faster than real ones: a softmax whose maximum never moves does
  // not rescale, and hardware draws less power. The block of noise repeats; its length is prime, so that no two rows
  // are equal. The first block is uploaded, then doubled in place, because uploads to a device are slow.
  void fill_with_noise(Tensor x) {
    static const std::vector<double> noise = [] {
      std::vector<double> block(65521);
      for (size_t i = 0; i < block.size(); ++i) block[i] = random_normal(1, stream_of("bench"), i);
      return block;
    }();
    const Tensor flat = x.reshape({x.count()});
    int64_t filled = std::min(x.count(), static_cast<int64_t>(noise.size()));
    Buffer memory = Buffer::host(static_cast<size_t>(filled) * size_of(x.dtype()));
    const Tensor host(memory.data(), x.dtype(), {filled});
    dispatch_floating(x.dtype(), [&]<class T>(T) {
      for (T& value : host.span<T>()) {
        value = static_cast<T>(noise[next_]);
        next_ = next_ + 1 == noise.size() ? 0 : next_ + 1;
      }
    });
    backend_.upload(flat.rows(0, filled), host);
    while (filled < x.count()) {
      const int64_t more = std::min(filled, x.count() - filled);
      backend_.copy(flat.rows(filled, filled + more), flat.rows(0, more));
      filled += more;
    }
  }

  Backend& backend_;
  Arena arena_;
  size_t next_ = 0;
};

struct AttentionTensors {
  Tensor q, k, v, out, dout, lse, delta, dq, dk, dv;
  AttentionState state;

  AttentionTensors(CaseTensors& make, DType type, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t width) {
    const DType wide = accumulate_type(type);
    q = make(type, {1, tokens, heads, width});
    out = make(type, {1, tokens, heads, width});
    dout = make(type, {1, tokens, heads, width});
    k = make(type, {1, tokens, kv_heads, width});
    v = make(type, {1, tokens, kv_heads, width});
    lse = make(wide, {1, heads, tokens});
    delta = make(wide, {1, heads, tokens});
    dq = make(wide, {1, tokens, heads, width});
    dk = make(wide, {1, tokens, kv_heads, width});
    dv = make(wide, {1, tokens, kv_heads, width});
    state = {make(wide, {1, tokens, heads, width}), make(wide, {1, heads, tokens}), make(wide, {1, heads, tokens})};
  }
};

std::string gigaflops(double rate) { return fmt::format("{:.1f} GFLOP/s", rate * 1e-9); }

std::optional<double> share_of_peak(const MachineProfile& profile, DType dtype, double rate) {
  const auto peak = profile.peak_flops_per_second.find(dtype);
  return share_of(rate, peak == profile.peak_flops_per_second.end() ? 0 : peak->second);
}

// Query heads of a case on a device, four per key/value head: enough to give every multiprocessor several tiles of 64
// queries, and no more, so that long sequences do not take longer than necessary.
int64_t heads_on_device(int64_t length) {
  constexpr int64_t kRows = 131072;
  int64_t heads = 4;
  while (heads < 32 && 2 * heads * length <= kRows) heads *= 2;
  return heads;
}

}  // namespace

void bench_products(Backend& backend, Communicator& world, DType dtype, double seconds, BenchResult& result) {
  std::vector<ProductCase> cases = product_cases(!backend.unified());
  if (!backend.unified()) {
    const int64_t room = room_on_device(backend, world);
    if (const size_t none = std::erase_if(cases, [&](const ProductCase& product) { return product.bytes() > room; }))
      result.left_out.push_back(fmt::format("{} products in {}: no room on the device", none, name_of(dtype)));
  }
  std::vector<double> costs;
  for (const ProductCase& product : cases) costs.push_back(product.flops());
  const size_t measured = measure_in_order(world, seconds, costs, [&](size_t i, double share) {
    const auto [form, rows, inner, columns] = cases[i];
    const bool weight = form == Form::kWeightGradient;  // its result accumulates in the accumulate type
    CaseTensors make(backend);
    make.make(static_cast<size_t>(cases[i].bytes()));
    const Tensor a = weight ? make(dtype, {inner, rows}) : make(dtype, {rows, inner});
    const Tensor b = form == Form::kForward ? make(dtype, {columns, inner}) : make(dtype, {inner, columns});
    const Tensor c = make(weight ? accumulate_type(dtype) : dtype, {rows, columns});
    const Transpose transpose_a = weight ? Transpose::kYes : Transpose::kNo,
                    transpose_b = form == Form::kForward ? Transpose::kYes : Transpose::kNo;
    const Timing timing =
        time_alone(backend, world, share, [&] { backend.matmul(c, a, b, transpose_a, transpose_b, weight); });
    const double rate = costs[i] / timing.seconds;
    result.profile.products[dtype].push_back({rows, inner, columns, rate});
    const char* formula = weight ? "dyᵀ·x" : form == Form::kForward ? "x·Wᵀ" : "dy·W";
    result.rows.push_back({fmt::format("product {}", name_of(dtype)),
                           fmt::format("{} × {} × {}  {}", rows, inner, columns, formula), gigaflops(rate), timing,
                           share_of_peak(result.profile, dtype, rate)});
    return timing.seconds;
  });
  if (measured < cases.size())
    result.left_out.push_back(fmt::format("{} of {} products in {}, the largest: a larger bench.seconds measures them",
                                          cases.size() - measured, cases.size(), name_of(dtype)));
}

void bench_attention(Backend& backend, Communicator& world, DType dtype, int64_t longest, double seconds,
                     BenchResult& result) {
  // On a CPU two query heads per thread, so that all threads are busy at any length and a machine with many threads
  // takes no longer than one with few. As in most models several query heads share one key/value head. Uses the
  // profile's threads rather than this rank's own, because all ranks must measure the same cases.
  const bool device = !backend.unified();
  const int64_t kv_heads_on_cpu = std::clamp<int64_t>(result.profile.threads, 1, 16);
  const auto heads_of = [&](int64_t length) { return device ? heads_on_device(length) : 2 * kv_heads_on_cpu; };
  const auto kv_heads_of = [&](int64_t length) { return device ? heads_on_device(length) / 4 : kv_heads_on_cpu; };
  const auto tensors_of = [&](CaseTensors& make, int64_t length, int64_t width) {
    return AttentionTensors(make, dtype, length, heads_of(length), kv_heads_of(length), width);
  };
  std::vector<std::pair<int64_t, int64_t>> cases;  // length, head size
  const auto add = [&](int64_t length) {
    for (const int64_t width : {64, 128}) cases.emplace_back(length, width);
  };
  for (int64_t length = device ? 1024 : 512; length < longest; length *= 2) add(length);
  add(longest);
  const auto flops = [&](const std::pair<int64_t, int64_t>& c) {  // forward and backward
    const auto length = static_cast<double>(c.first);
    return 7.0 * length * length * static_cast<double>(c.second * heads_of(c.first));
  };
  std::stable_sort(cases.begin(), cases.end(), [&](const auto& a, const auto& b) { return flops(a) < flops(b); });
  const size_t all = cases.size();
  if (device) {  // a case's memory rises with its cost, except for the heads
    const int64_t room = room_on_device(backend, world);
    std::erase_if(cases, [&](const auto& c) {
      CaseTensors size(backend);
      tensors_of(size, c.first, c.second);
      return static_cast<int64_t>(size.bytes()) > room;
    });
    if (cases.size() < all)
      result.left_out.push_back(fmt::format("{} of {} cases of attention in {}: no room on the device",
                                            all - cases.size(), all, name_of(dtype)));
  }
  std::vector<double> costs;
  for (const auto& one : cases) costs.push_back(flops(one));
  const size_t measured = measure_in_order(world, seconds, costs, [&](size_t i, double share) {
    const auto [length, width] = cases[i];
    CaseTensors size(backend), make(backend);
    tensors_of(size, length, width);
    make.make(size.bytes());
    const AttentionTensors t = tensors_of(make, length, width);
    // The mask is in host memory on a CPU and uploaded otherwise.
    std::vector<int64_t> index(static_cast<size_t>(length)), first(index.size());
    std::iota(index.begin(), index.end(), 0);
    Buffer mask_memory = backend.allocate(2 * sizeof(int64_t) * index.size());
    const Tensor order(mask_memory.data(), DType::kInt64, {length});
    const Tensor begin(order.data<int64_t>() + length, DType::kInt64, {1, length});
    backend.upload(order, Tensor::of(index, {length}));
    backend.upload(begin, Tensor::of(first, {1, length}));
    const AttentionMask mask{order, begin, order, MaskShape{MaskShape::Kind::kCausal}};
    const double scale = 1 / std::sqrt(static_cast<double>(width));
    const Timing forward = time_alone(backend, world, share * 2 / 7, [&] {
      backend.attention_begin(t.state);
      backend.attention_forward(t.state, t.q, t.k, t.v, mask, scale);
      backend.attention_finish(t.out, t.lse, t.state);
    });
    const Timing backward = time_alone(backend, world, share * 5 / 7, [&] {
      backend.attention_delta(t.delta, t.dout, t.out);
      backend.attention_backward(t.dq, t.dk, t.dv, t.q, t.k, t.v, t.dout, t.out, t.lse, t.delta, mask, scale);
    });
    const double there = costs[i] * 2 / 7 / forward.seconds, back = costs[i] * 5 / 7 / backward.seconds;
    result.profile.attention[dtype].push_back({width, length, there, back});
    const std::string what = fmt::format("attention {}", name_of(dtype)),
                      shape = fmt::format("{} tokens, heads of {}", length, width);
    result.rows.push_back(
        {what, shape + ", forward", gigaflops(there), forward, share_of_peak(result.profile, dtype, there)});
    result.rows.push_back(
        {what, shape + ", backward", gigaflops(back), backward, share_of_peak(result.profile, dtype, back)});
    return forward.seconds + backward.seconds;
  });
  if (measured < cases.size())
    result.left_out.push_back(
        fmt::format("{} of {} cases of attention in {}, the longest: a larger bench.seconds measures them",
                    cases.size() - measured, cases.size(), name_of(dtype)));
}

}  // namespace carillon
