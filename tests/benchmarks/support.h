// Shared by the benchmark programs: tensors of random numbers, the definition of useful work, lengths from the command
// line.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/rng.h"

namespace carillon::benchmarks {

// The geometry of SmolLM2-135M, used by all programs.
inline constexpr int64_t kHidden = 576, kHeads = 9, kKvHeads = 3, kHeadDim = 64, kMlp = 1536, kVocabulary = 49152;

// Useful FLOPs of causal attention: half of 4·T²·NH·HD forward, 2.5 times that backward (five products, not two).
inline double attention_forward_flops(int64_t length, int64_t heads, int64_t head_dim) {
  return 2.0 * static_cast<double>(length) * static_cast<double>(length) * static_cast<double>(heads * head_dim);
}
inline constexpr double kBackwardShare = 2.5;

// The CPU backend, and memory that lives as long as this object.
class Workspace {
 public:
  Workspace() : backend_(make_backend({.device = "cpu"})) {}
  Backend& backend() { return *backend_; }

  // A tensor of zeros whose pages have been touched.
  Tensor zeros(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor x(nullptr, dtype, shape);
    buffers_.push_back(backend_->allocate(static_cast<size_t>(x.count()) * size_of(dtype)));
    x = Tensor(buffers_.back().data(), dtype, shape);
    backend_->fill(x, 0);
    return x;
  }

  // Normally distributed numbers. They repeat after 65 521, a prime, so no two rows of a tensor are equal.
  Tensor normal(DType dtype, std::initializer_list<int64_t> shape, double scale = 1) {
    constexpr int64_t kPeriod = 65521;
    const Tensor x = zeros(dtype, shape);
    const uint64_t stream = buffers_.size();
    dispatch_floating(dtype, [&](auto zero) {
      using T = decltype(zero);
      T* data = x.data<T>();
      for (int64_t i = 0; i < x.count(); ++i)
        data[i] = i < kPeriod ? T(scale * random_normal(1, stream, static_cast<uint64_t>(i))) : data[i - kPeriod];
    });
    return x;
  }

  // 0, 1, 2 … times `step`, int64.
  Tensor indices(std::initializer_list<int64_t> shape, int64_t step = 1) {
    const Tensor x = zeros(DType::kInt64, shape);
    for (int64_t i = 0; i < x.count(); ++i) x.data<int64_t>()[i] = i * step;
    return x;
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::vector<Buffer> buffers_;
};

// Reads lengths from the remaining arguments; returns `otherwise` if there are none.
inline std::vector<int64_t> lengths_of(int argc, char** argv, std::vector<int64_t> otherwise) {
  std::vector<int64_t> lengths;
  for (int i = 1; i < argc; ++i) {
    char* end = nullptr;
    const int64_t length = std::strtoll(argv[i], &end, 10);
    if (*end != '\0' || length < 2)
      fail(ExitCode::kUsage, "{} is no length, on the command line, give numbers of tokens", argv[i]);
    lengths.push_back(length);
  }
  return lengths.empty() ? otherwise : lengths;
}

}  // namespace carillon::benchmarks
