// Matrix products and attention, in the forms and sizes a step has.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "launch/bench/bench.h"
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
};

// Widths of a 135M model (576, 1536), a 1B model (2048) and an 8B model (4096); as many rows as a rank has tokens. A
// profile knows shapes, not forms, so each shape stands here once, in one of the forms it occurs in.
std::vector<ProductCase> product_cases() {
  using enum Form;
  std::vector<ProductCase> cases = {
      {kForward, 512, 576, 576},          {kForward, 512, 576, 1536},         {kForward, 4096, 576, 1536},
      {kForward, 512, 2048, 2048},        {kForward, 4096, 2048, 2048},       {kForward, 512, 4096, 4096},
      {kForward, 4096, 4096, 4096},       {kInputGradient, 512, 1536, 576},   {kInputGradient, 4096, 1536, 576},
      {kInputGradient, 2048, 2048, 2048}, {kInputGradient, 1024, 4096, 4096}, {kWeightGradient, 576, 4096, 576},
      {kWeightGradient, 1536, 4096, 576}, {kWeightGradient, 2048, 512, 2048}, {kWeightGradient, 4096, 2048, 4096},
  };
  std::stable_sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.flops() < b.flops(); });
  return cases;
}

// Memory for the tensors of one case, dealt by the code that runs it: measured first, then made.
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
  // Equal numbers would be quicker than real ones: a softmax whose maximum never moves rescales nothing, and hardware
  // draws less power. A block of noise again and again, of a prime length so that no two rows are alike.
  void fill_with_noise(Tensor x) {
    static const std::vector<double> noise = [] {
      std::vector<double> block(65521);
      for (size_t i = 0; i < block.size(); ++i) block[i] = random_normal(1, stream_of("bench"), i);
      return block;
    }();
    Buffer memory = Buffer::host(x.bytes());
    const Tensor host(memory.data(), x.dtype(), x.shape());
    dispatch_floating(x.dtype(), [&]<class T>(T) {
      for (T& value : host.span<T>()) {
        value = static_cast<T>(noise[next_]);
        next_ = next_ + 1 == noise.size() ? 0 : next_ + 1;
      }
    });
    backend_.upload(x, host);
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

}  // namespace

void bench_products(Backend& backend, Communicator& world, DType dtype, double seconds, BenchResult& result) {
  const std::vector<ProductCase> cases = product_cases();
  std::vector<double> costs;
  for (const ProductCase& product : cases) costs.push_back(product.flops());
  const size_t measured = measure_in_order(world, seconds, costs, [&](size_t i, double share) {
    const auto [form, rows, inner, columns] = cases[i];
    const bool weight = form == Form::kWeightGradient;  // its result is summed up in the accumulate type
    CaseTensors make(backend);
    make.make(static_cast<size_t>(rows * inner + inner * columns + rows * columns) * 8 + (size_t{1} << 12));
    const Tensor a = weight ? make(dtype, {inner, rows}) : make(dtype, {rows, inner});
    const Tensor b = form == Form::kForward ? make(dtype, {columns, inner}) : make(dtype, {inner, columns});
    const Tensor c = make(weight ? accumulate_type(dtype) : dtype, {rows, columns});
    const Timing timing = time_alone(backend, world, share, [&] {
      backend.matmul(c, a, b, weight ? Transpose::kYes : Transpose::kNo,
                     form == Form::kForward ? Transpose::kYes : Transpose::kNo, weight);
    });
    const double rate = costs[i] / timing.seconds;
    result.profile.products[dtype].push_back({rows, inner, columns, rate});
    const char* formula = weight ? "dyᵀ·x" : form == Form::kForward ? "x·Wᵀ" : "dy·W";
    result.rows.push_back({fmt::format("product {}", name_of(dtype)),
                           fmt::format("{} × {} × {}  {}", rows, inner, columns, formula), gigaflops(rate), timing});
    return timing.seconds;
  });
  if (measured < cases.size())
    result.left_out.push_back(fmt::format("{} of {} products in {}, the largest: a larger bench.seconds measures them",
                                          cases.size() - measured, cases.size(), name_of(dtype)));
}

void bench_attention(Backend& backend, Communicator& world, DType dtype, int64_t longest, double seconds,
                     BenchResult& result) {
  // Two query heads a thread, so that long and short sequences keep all threads busy and a machine of many threads
  // takes no longer than one of few. As in most models several query heads share one of keys and values.
  // The profile's threads, not this rank's own: all ranks must measure the same cases.
  const int64_t kv_heads = std::clamp<int64_t>(result.profile.threads, 1, 16), heads = 2 * kv_heads;
  std::vector<std::pair<int64_t, int64_t>> cases;  // length, head size
  const auto add = [&](int64_t length) {
    for (const int64_t width : {64, 128}) cases.emplace_back(length, width);
  };
  for (int64_t length = 512; length < longest; length *= 2) add(length);
  add(longest);
  std::stable_sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) {
    return a.first * a.first * a.second < b.first * b.first * b.second;
  });
  std::vector<double> costs;  // forward and backward
  for (const auto& [length, width] : cases)
    costs.push_back(7.0 * static_cast<double>(length) * static_cast<double>(length) *
                    static_cast<double>(width * heads));
  const size_t measured = measure_in_order(world, seconds, costs, [&](size_t i, double share) {
    const auto [length, width] = cases[i];
    CaseTensors size(backend), make(backend);
    AttentionTensors(size, dtype, length, heads, kv_heads, width);
    make.make(size.bytes());
    const AttentionTensors t(make, dtype, length, heads, kv_heads, width);
    // The mask is the host's on a CPU and uploaded elsewhere.
    std::vector<int64_t> index(static_cast<size_t>(length)), first(index.size());
    std::iota(index.begin(), index.end(), 0);
    Buffer mask_memory = backend.allocate(2 * sizeof(int64_t) * index.size());
    const Tensor order(mask_memory.data(), DType::kInt64, {length});
    const Tensor begin(order.data<int64_t>() + length, DType::kInt64, {1, length});
    backend.upload(order, Tensor::of(index, {length}));
    backend.upload(begin, Tensor::of(first, {1, length}));
    const AttentionMask mask{order, begin, order};
    const double scale = 1 / std::sqrt(static_cast<double>(width));
    const Timing forward = time_alone(backend, world, share * 2 / 7, [&] {
      backend.attention_begin(t.state);
      backend.attention_forward(t.state, t.q, t.k, t.v, mask, scale);
      backend.attention_finish(t.out, t.lse, t.state);
    });
    const Timing backward = time_alone(backend, world, share * 5 / 7, [&] {
      backend.attention_delta(t.delta, t.dout, t.out);
      backend.attention_backward(t.dq, t.dk, t.dv, t.q, t.k, t.v, t.dout, t.lse, t.delta, mask, scale);
    });
    const double there = costs[i] * 2 / 7 / forward.seconds, back = costs[i] * 5 / 7 / backward.seconds;
    result.profile.attention[dtype].push_back({width, length, there, back});
    const std::string what = fmt::format("attention {}", name_of(dtype)),
                      shape = fmt::format("{} tokens, heads of {}", length, width);
    result.rows.push_back({what, shape + ", forward", gigaflops(there), forward});
    result.rows.push_back({what, shape + ", backward", gigaflops(back), backward});
    return forward.seconds + backward.seconds;
  });
  if (measured < cases.size())
    result.left_out.push_back(
        fmt::format("{} of {} cases of attention in {}, the longest: a larger bench.seconds measures them",
                    cases.size() - measured, cases.size(), name_of(dtype)));
}

}  // namespace carillon
