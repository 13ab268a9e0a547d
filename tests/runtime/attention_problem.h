// A call, or several calls, of attention's CUDA kernels on random operands with any mask: what the emulated device
// computes in one of its modes, what the reference computes, and how far apart they are.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>

#include "runtime/backend.h"
#include "runtime/cuda/attention/attention_kernels.h"
#include "tests/cuda_emulation/counters.h"
#include "tests/support/index_runs.h"
#include "tests/support/random_tensor.h"

namespace carillon::testing {

struct Mode {
  const char* name;
  const char* options;
};
inline constexpr Mode kModes[] = {{"ascending late", "order=ascending,copies=late"},
                                  {"ascending early", "order=ascending,copies=early"},
                                  {"descending late", "order=descending,copies=late"},
                                  {"descending early", "order=descending,copies=early"}};
inline void enter(const Mode& mode) {
  setenv("CARILLON_EMULATION", mode.options, 1);
  cudaDeviceReset();
}

// A host tensor and its copy on the device, gaps included.
class OnDevice {
 public:
  explicit OnDevice(Tensor host) : host_(host), bytes_(bytes_of(host)) {
    cudaMalloc(&device_, std::max<size_t>(bytes_, 16));
    cudaMemcpy(device_, host.raw(), bytes_, cudaMemcpyHostToDevice);
  }
  ~OnDevice() { cudaFree(device_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  void fetch() const { cudaMemcpy(host_.raw(), device_, bytes_, cudaMemcpyDeviceToHost); }
  void* at(int64_t element) const {
    return static_cast<char*>(device_) + element * static_cast<int64_t>(size_of(host_.dtype()));
  }
  const int64_t* indices(int64_t element = 0) const { return static_cast<const int64_t*>(at(element)); }
  // [B, T, heads, HD] from token `from` on, or from head `head`.
  cuda::HeadsView heads(int64_t from = 0, int64_t head = 0) const {
    return {at(from * host_.stride(1) + head * host_.stride(2)), host_.stride(0), host_.stride(1), host_.stride(2)};
  }
  cuda::StatisticView statistic() const { return {device_, host_.stride(0), host_.stride(1)}; }

 private:
  static size_t bytes_of(Tensor x) { return static_cast<size_t>(x.stride(0) * x.size(0)) * size_of(x.dtype()); }

  Tensor host_;
  size_t bytes_;
  void* device_ = nullptr;
};

struct Case {
  const char* name;
  int64_t batch, heads, kv_heads, head_size;
  std::vector<int64_t> query;              // indices in the sequence
  std::vector<std::vector<int64_t>> keys;  // blocks in the order of the calls
  int64_t document = 0;                    // length of documents; 0: one
  int64_t window = 0;                      // 0: none
  int64_t padding = 0;                     // rows at the end that see nothing
  int64_t gap = 8;                         // elements between rows
};

// What is launched: the kernels, or broken variants of them.
struct Kernels {
  std::function<cudaError_t(const cuda::AttentionForward&, cudaStream_t)> forward = cuda::launch_attention_forward;
  std::function<cudaError_t(const cuda::AttentionBackward&, cudaStream_t)> backward = cuda::launch_attention_backward;
};

class Problem {
 public:
  Problem(const Case& problem, DType dtype)
      : c(problem),
        type(dtype),
        rows(static_cast<int64_t>(c.query.size())),
        query(c.query),
        first(static_cast<size_t>(c.batch * rows)) {
    for (const auto& block : c.keys) {
      key = key + block;
      cuts.push_back(static_cast<int64_t>(key.size()));
    }
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t own = query[static_cast<size_t>(i)];
        int64_t from = c.document > 0 ? own / c.document * c.document : 0;
        if (c.window > 0) from = std::max(from, own - c.window + 1 - b);
        if (i >= rows - c.padding) from = 1 << 20;
        first[static_cast<size_t>(b * rows + i)] = from;
      }
  }

  struct Result {
    RandomTensor accumulator, maximum, sum, out, lse, delta, dq, dk, dv;
    cudaError_t error = cudaSuccess;
  };
  // Result memory starts with random numbers: those in the state must have no effect, those in the gradients (small, so
  // that they hide no error) are added to.
  Result begin() const {
    const int64_t keys = static_cast<int64_t>(key.size());
    return {{wide, {c.batch, rows, c.heads, c.head_size}, 10, c.gap},
            {wide, {c.batch, c.heads, rows}, 11},
            {wide, {c.batch, c.heads, rows}, 12},
            {type, {c.batch, rows, c.heads, c.head_size}, 5},
            {wide, {c.batch, c.heads, rows}, 6},
            {wide, {c.batch, c.heads, rows}, 13},
            {wide, {c.batch, rows, c.heads, c.head_size}, 7, c.gap, 0.02},
            {wide, {c.batch, keys, c.kv_heads, c.head_size}, 8, c.gap, 0.02},
            {wide, {c.batch, keys, c.kv_heads, c.head_size}, 9, 0, 0.02}};
  }
  Result on_reference() {
    const auto backend = make_backend({.device = "reference"});
    Result r = begin();
    const AttentionState state{r.accumulator, r.maximum, r.sum};
    backend->attention_begin(state);
    for (size_t i = 0; i < cuts.size(); ++i) backend->attention_forward(state, q, k_of(i), v_of(i), mask(i), scale());
    backend->attention_finish(r.out, r.lse, state);
    backend->attention_delta(r.delta, dout, r.out);
    for (size_t i = 0; i < cuts.size(); ++i)
      backend->attention_backward(r.dq, r.dk.tensor().slice(1, from(i), cuts[i]),
                                  r.dv.tensor().slice(1, from(i), cuts[i]), q, k_of(i), v_of(i), dout, r.out, r.lse,
                                  r.delta, mask(i), scale());
    return r;
  }
  Result on_device(const Kernels& kernels = {}) {
    Result r = begin();
    const OnDevice dq(r.dq), dk(r.dk), dv(r.dv), accumulator(r.accumulator), maximum(r.maximum), sum(r.sum), lse(r.lse),
        delta(r.delta), out(r.out), q_(q), k_(k), v_(v), dout_(dout), query_(Tensor::of(query, {rows})),
        first_(Tensor::of(first, {c.batch, rows})), key_(Tensor::of(key, {static_cast<int64_t>(key.size())}));
    const auto note = [&](cudaError_t error) {
      if (r.error == cudaSuccess) r.error = error;
    };
    const cuda::AttentionRows shape{static_cast<cuda::Type>(type), c.batch, rows, static_cast<int>(c.heads),
                                    static_cast<int>(c.head_size)};
    const auto problem_of = [&](size_t i) {
      cuda::AttentionProblem p;
      p.type = static_cast<cuda::Type>(type);
      p.batch = c.batch, p.rows = rows, p.keys = cuts[i] - from(i);
      p.heads = static_cast<int>(c.heads), p.kv_heads = static_cast<int>(c.kv_heads);
      p.head_size = static_cast<int>(c.head_size), p.scale = scale();
      p.q = q_.heads(), p.k = k_.heads(from(i)), p.v = v_.heads(from(i));
      p.query_index = query_.indices(), p.first = first_.indices(), p.first_batch = rows;
      p.key_index = key_.indices(from(i));
      return p;
    };
    note(cuda::launch_attention_begin(shape, maximum.statistic(), sum.statistic(), nullptr, cuda::Type::kFloat32,
                                      nullptr));
    for (size_t i = 0; i < cuts.size(); ++i)
      note(kernels.forward({problem_of(i), accumulator.heads(), maximum.statistic(), sum.statistic()}, nullptr));
    note(cuda::launch_attention_finish(shape, out.heads(), lse.statistic(), accumulator.heads(), maximum.statistic(),
                                       sum.statistic(), nullptr));
    note(cuda::launch_attention_delta(shape, delta.statistic(), dout_.heads(), out.heads(), nullptr));
    for (size_t i = 0; i < cuts.size(); ++i)
      note(kernels.backward({problem_of(i), dq.heads(), dk.heads(from(i)), dv.heads(from(i)), dout_.heads(),
                             lse.statistic(), delta.statistic()},
                            nullptr));
    note(cudaDeviceSynchronize());
    if (r.error == cudaSuccess)
      for (const OnDevice* x : {&maximum, &sum, &out, &lse, &delta, &dq, &dk, &dv}) x->fetch();
    return r;
  }

  // Of the only block of keys, which is the rows' own, in calls with both ends: gradients side by side, turned back.
  struct Joined {
    RandomTensor out, lse, delta, gradients;
    cudaError_t error = cudaSuccess;
  };
  Joined begin_joined() const {
    const int64_t all = c.heads + 2 * c.kv_heads;
    return {{type, {c.batch, rows, c.heads, c.head_size}, 5},
            {wide, {c.batch, c.heads, rows}, 6},
            {wide, {c.batch, c.heads, rows}, 13},
            {type, {c.batch, rows, all, c.head_size}, 7}};
  }
  static int64_t pairs_of(const Case& c) { return c.head_size / 2 - (c.head_size % 3 == 0 ? 1 : 0); }
  Joined on_reference_joined() {
    const auto backend = make_backend({.device = "reference"});
    Result r = begin();
    Joined j = begin_joined();
    const AttentionState state{r.accumulator, r.maximum, r.sum};
    backend->attention_forward(state, q, k_of(0), v_of(0), mask(0), scale(), {true, sinks, j.out, j.lse});
    const auto part = [&](int64_t begin, int64_t count) { return j.gradients.tensor().slice(2, begin, begin + count); };
    backend->attention_backward(
        r.dq, r.dk, r.dv, q, k_of(0), v_of(0), dout, j.out, j.lse, j.delta, mask(0), scale(),
        {true, true, true, part(0, c.heads), part(c.heads, c.kv_heads), part(c.heads + c.kv_heads, c.kv_heads),
         Tensor::of(position, {c.batch * rows}), cosine, sine});
    return j;
  }
  Joined on_device_joined(const Kernels& kernels = {}) {
    Result r = begin();
    Joined j = begin_joined();
    const OnDevice dq(r.dq), dk(r.dk), dv(r.dv), accumulator(r.accumulator), maximum(r.maximum), sum(r.sum), lse(j.lse),
        delta(j.delta), out(j.out), gradients(j.gradients), q_(q), k_(k), v_(v), dout_(dout), sinks_(sinks),
        query_(Tensor::of(query, {rows})), first_(Tensor::of(first, {c.batch, rows})), key_(Tensor::of(key, {rows})),
        position_(Tensor::of(position, {c.batch * rows})), cosine_(cosine), sine_(sine);
    const auto note = [&](cudaError_t error) {
      if (j.error == cudaSuccess) j.error = error;
    };
    cuda::AttentionForward forward;
    cuda::AttentionProblem& p = forward.problem;
    p.type = static_cast<cuda::Type>(type);
    p.batch = c.batch, p.rows = rows, p.keys = rows, p.heads = static_cast<int>(c.heads);
    p.kv_heads = static_cast<int>(c.kv_heads), p.head_size = static_cast<int>(c.head_size), p.scale = scale();
    p.q = q_.heads(), p.k = k_.heads(), p.v = v_.heads();
    p.query_index = query_.indices(), p.first = first_.indices(), p.first_batch = rows, p.key_index = key_.indices();
    forward.accumulator = accumulator.heads(), forward.maximum = maximum.statistic(), forward.sum = sum.statistic();
    forward.first = true, forward.sinks = sinks_.at(0), forward.out = out.heads(), forward.lse = lse.statistic();
    note(kernels.forward(forward, nullptr));
    cuda::AttentionBackward backward{
        p, dq.heads(), dk.heads(), dv.heads(), dout_.heads(), lse.statistic(), delta.statistic()};
    backward.first = backward.first_keys = true, backward.out = out.heads();
    backward.result_dq = gradients.heads(), backward.result_dk = gradients.heads(0, c.heads);
    backward.result_dv = gradients.heads(0, c.heads + c.kv_heads);
    backward.turn = {position_.indices(), cosine_.at(0), sine_.at(0), kTableRows, static_cast<int>(pairs_of(c))};
    note(kernels.backward(backward, nullptr));
    note(cudaDeviceSynchronize());
    if (j.error == cudaSuccess)
      for (const OnDevice* x : {&out, &lse, &delta, &gradients}) x->fetch();
    return j;
  }

 private:
  double scale() const { return 1 / std::sqrt(static_cast<double>(c.head_size)); }
  int64_t from(size_t i) const { return i == 0 ? 0 : cuts[i - 1]; }
  Tensor k_of(size_t i) const { return k.tensor().slice(1, from(i), cuts[i]); }
  Tensor v_of(size_t i) const { return v.tensor().slice(1, from(i), cuts[i]); }
  AttentionMask mask(size_t i) {
    return {Tensor::of(query, {rows}), Tensor::of(first, {c.batch, rows}),
            Tensor::of(key, {static_cast<int64_t>(key.size())}).slice(0, from(i), cuts[i])};
  }

  const Case c;
  const DType type, wide = accumulate_type(type);
  const int64_t rows;
  std::vector<int64_t> query, key, cuts, first;  // cuts[i]: where block i of the keys ends

  int64_t key_count() const {
    int64_t count = 0;
    for (const auto& block : c.keys) count += static_cast<int64_t>(block.size());
    return count;
  }

 public:
  RandomTensor q{type, {c.batch, rows, c.heads, c.head_size}, 1, c.gap};
  RandomTensor k{type, {c.batch, key_count(), c.kv_heads, c.head_size}, 2, c.gap};
  RandomTensor v{type, {c.batch, key_count(), c.kv_heads, c.head_size}, 3, 2 * c.gap};
  RandomTensor dout{type, {c.batch, rows, c.heads, c.head_size}, 4};
  static constexpr int64_t kTableRows = 400;
  RandomTensor sinks{type, {c.heads}, 14};
  RandomTensor cosine{wide, {kTableRows, pairs_of(c)}, 15}, sine{wide, {kTableRows, pairs_of(c)}, 16};
  std::vector<int64_t> position = [this] {
    std::vector<int64_t> places(static_cast<size_t>(c.batch * rows));
    for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int64_t>(i * 37 % kTableRows);
    return places;
  }();
};

// As distance() below.
inline double joined_distance(const Problem::Joined& got, const Problem::Joined& expected, DType type) {
  if (got.error != cudaSuccess) return INFINITY;
  const double bound = type == DType::kBFloat16 ? 8e-3 : 4 * bound_of(type);
  double worst = 0;
  for (const auto& [a, b] : {std::pair(&got.out, &expected.out),
                             {&got.lse, &expected.lse},
                             {&got.delta, &expected.delta},
                             {&got.gradients, &expected.gradients}}) {
    const double distance = relative_distance(*a, *b) / bound;
    worst = std::isfinite(distance) ? std::max(worst, distance) : INFINITY;
  }
  return worst;
}

// Largest of the distances to the reference, in units of its bound: at most 1 when all is well, infinite where a launch
// failed or one has a NaN and the other not.
inline double distance(const Problem::Result& got, const Problem::Result& expected, DType type) {
  if (got.error != cudaSuccess) return INFINITY;
  const double bound = type == DType::kBFloat16 ? 4e-3 : 4 * bound_of(type);
  const double lse_bound = type == DType::kFloat64 ? bound : 2e-6;
  double worst = 0;
  const auto include = [&](double distance) { worst = std::isfinite(distance) ? std::max(worst, distance) : INFINITY; };
  include(relative_distance(got.lse, expected.lse) / lse_bound);
  for (const auto& [a, b] : {std::pair(&got.out, &expected.out),
                             {&got.delta, &expected.delta},
                             {&got.dq, &expected.dq},
                             {&got.dk, &expected.dk},
                             {&got.dv, &expected.dv}})
    include(relative_distance(*a, *b) / bound);
  return worst;
}

inline bool same_bits(const Problem::Result& a, const Problem::Result& b) {
  for (const auto& [x, y] :
       {std::pair(&a.out, &b.out), {&a.lse, &b.lse}, {&a.dq, &b.dq}, {&a.dk, &b.dk}, {&a.dv, &b.dv}})
    if (values_of(*x) != values_of(*y)) return false;
  return true;
}

// In every mode the result is close to the reference, and the bits are the same in all modes.
inline void expect_reference(const Case& c, DType type) {
  SCOPED_TRACE(fmt::format("{} {} head size {}", c.name, name_of(type), c.head_size));
  Problem problem(c, type);
  const Problem::Result expected = problem.on_reference();
  std::vector<Problem::Result> results;
  for (const Mode& mode : kModes) {
    enter(mode);
    results.push_back(problem.on_device());
    EXPECT_LE(distance(results.back(), expected, type), 1) << mode.name;
    EXPECT_TRUE(same_bits(results.back(), results.front())) << mode.name;
  }
}

// Two ranks of a zigzag ring, 4 chunks: rank 1 holds chunks 1 and 2; its own keys come first.
inline Case zigzag(int64_t chunk) {
  return {.name = "zigzag ring",
          .batch = 1,
          .heads = 4,
          .kv_heads = 1,
          .head_size = 64,
          .query = run(chunk, 3 * chunk),
          .keys = {run(chunk, 3 * chunk), run(0, chunk) + run(3 * chunk, 4 * chunk)}};
}

}  // namespace carillon::testing
