// Shared by tests of ops: runs them for every backend and element type against the reference, and checks gradients by
// central differences.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "tests/support/host_tensors.h"
#include "tests/support/random_tensor.h"

namespace carillon::testing {

struct Kind {
  DType dtype;
  std::string device;  // an instruction set of the CPU, or "cuda"
};

inline std::vector<Kind> kinds() {
  std::vector<Kind> result;
  for (const std::string& device : kinds_under_test())
    for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) result.push_back({dtype, device});
  return result;
}

class OpTest : public ::testing::TestWithParam<Kind> {
 protected:
  DType type_ = GetParam().dtype;
  DType wide_ = accumulate_type(type_);
  double bound_ = bound_of(type_);
  std::unique_ptr<Backend> reference_ = make_backend({.device = "reference"});
  std::unique_ptr<Backend> fast_;

  void SetUp() override {
    if (const std::string why = why_skipped(GetParam().device); !why.empty()) GTEST_SKIP() << why;
    fast_ = make(2);
  }
  static std::unique_ptr<Backend> make(int threads) { return make_under_test(GetParam().device, threads); }
};

inline double dot(Tensor a, Tensor b) {
  const std::vector<double> x = values_of(a), y = values_of(b);
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

// Perturbs each element of `input` (float64) and expects `loss` to change as `gradient` predicts.
inline void expect_gradient(Tensor gradient, Tensor input, const std::function<double()>& loss) {
  const std::vector<double> expected = values_of(gradient);
  double* data = input.data<double>();
  for (int64_t i = 0; i < input.count(); ++i) {
    const double before = data[i], h = 1e-5;
    data[i] = before + h;
    const double up = loss();
    data[i] = before - h;
    const double down = loss();
    data[i] = before;
    ASSERT_NEAR((up - down) / (2 * h), expected[static_cast<size_t>(i)], 1e-7) << "element " << i;
  }
}

}  // namespace carillon::testing
