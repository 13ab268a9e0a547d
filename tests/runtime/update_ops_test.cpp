// The optimizer's ops of a fast backend against the reference, as backend_test.cpp tests the others.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <span>
#include <utility>

#include "runtime/backend.h"
#include "tests/support/op_test.h"

namespace carillon::testing {
namespace {

class UpdateTest : public OpTest {};

// The parameters of an optimizer: masters of every length, some empty, some misaligned by one element, and more than a
// CUDA launch takes. If T is the type of the masters, the weights are the masters. The same seed gives the same
// numbers.
class Parameters {
 public:
  explicit Parameters(DType type) : type_(type), wide_(accumulate_type(type)) {
    for (const int64_t count : {1, 0, 40007, 4096, 16384, 16385, 3, 8191}) add(count);
    for (int64_t i = 0; i < 125; ++i) add(i % 7 * 5);
  }
  std::span<const AdamWTensors> all() const { return tensors_; }
  std::vector<Tensor> gradients() const {
    std::vector<Tensor> result;
    for (const AdamWTensors& x : tensors_) result.push_back(x.gradient);
    return result;
  }

 private:
  void add(int64_t count) {
    const int64_t index = static_cast<int64_t>(tensors_.size()), off = index % 3 == 2 ? 1 : 0;
    const auto make = [&](DType type, uint64_t stream) {
      memory_.push_back(std::make_unique<RandomTensor>(type, std::vector{count + off}, 10 * index + stream));
      return memory_.back()->tensor().slice(0, off, count + off);
    };
    AdamWTensors x{{}, make(wide_, 1), make(wide_, 2), make(wide_, 3), make(wide_, 4), index % 4 != 1};
    x.weight = type_ != wide_ ? make(type_, 5) : x.master;
    if (index % 5 == 4) x.weight = {};
    dispatch_floating(wide_, [&](auto zero) {
      using A = decltype(zero);
      for (A& value : x.exp_avg_sq.span<A>()) value = A(std::abs(static_cast<double>(value)));
    });
    tensors_.push_back(x);
  }

  DType type_, wide_;
  std::vector<std::unique_ptr<RandomTensor>> memory_;
  std::vector<AdamWTensors> tensors_;
};

// Largest relative difference over all tensors, by kind: masters, first and second moments, weights.
std::array<double, 4> distances(const Parameters& a, const Parameters& b) {
  std::array<double, 4> result{};
  for (size_t i = 0; i < a.all().size(); ++i) {
    const auto &x = a.all()[i], &y = b.all()[i];
    const std::pair<Tensor, Tensor> pairs[] = {
        {x.master, y.master}, {x.exp_avg, y.exp_avg}, {x.exp_avg_sq, y.exp_avg_sq}, {x.weight, y.weight}};
    for (size_t kind = 0; kind < 4; ++kind)
      if (pairs[kind].first)
        result[kind] = std::max(result[kind], relative_distance(pairs[kind].first, pairs[kind].second));
  }
  return result;
}

TEST_P(UpdateTest, AdamW) {
  const AdamWStep step{1e-2, 0.9, 0.95, 1e-8, 0.1, 3, 0.7};
  const Parameters expected(type_), together(type_), alone(type_), one_thread(type_);
  reference_->adamw(expected.all(), step);
  fast_->adamw(together.all(), step);
  const auto [master, exp_avg, exp_avg_sq, weight] = distances(together, expected);
  EXPECT_LT(master, bound_of(wide_));
  EXPECT_LT(exp_avg, bound_of(wide_));
  EXPECT_LT(exp_avg_sq, bound_of(wide_));
  EXPECT_LT(weight, type_ == DType::kBFloat16 ? bound_of(type_) : bound_of(wide_));  // one of few may round away

  for (const AdamWTensors& x : alone.all()) fast_->adamw(std::span(&x, 1), step);
  EXPECT_EQ(distances(together, alone), (std::array<double, 4>{})) << "the same bits in a list and alone";
  make(1)->adamw(one_thread.all(), step);
  EXPECT_EQ(distances(together, one_thread), (std::array<double, 4>{})) << "the same bits whatever the threads";
  fast_->adamw({}, step);

  // A weight of the masters' type in separate memory.
  const RandomTensor w(wide_, {700}, 1), m(wide_, {700}, 2), v(wide_, {700}, 3, 0, 0.0), g(wide_, {700}, 4),
      elsewhere(wide_, {700}, 5);
  const AdamWTensors apart[] = {{elsewhere, w, m, v, g}};
  if (type_ != DType::kBFloat16) {
    fast_->adamw(apart, step);
    EXPECT_EQ(relative_distance(elsewhere, w), 0);
    EXPECT_NE(relative_distance(w, RandomTensor(wide_, {700}, 1)), 0);
  }
}

TEST_P(UpdateTest, SumOfSquaresOfManyTensors) {
  const Parameters parameters(type_);
  const std::vector<Tensor> gradients = parameters.gradients();
  const double sum = fast_->sum_of_squares(gradients);
  EXPECT_NEAR(sum / reference_->sum_of_squares(gradients), 1, 1e-12);
  double one_by_one = 0;
  for (const Tensor& x : gradients) one_by_one += sum_of_squares(*fast_, x);
  EXPECT_EQ(sum, one_by_one) << "the same bits in a list and alone";
  EXPECT_EQ(sum, make(1)->sum_of_squares(gradients)) << "the same bits whatever the threads";
  EXPECT_EQ(fast_->sum_of_squares(std::span<const Tensor>{}), 0);
  EXPECT_EQ(fast_->sum_of_squares(std::span(gradients).subspan(1, 1)), 0) << "a list of nothing";
}

INSTANTIATE_TEST_SUITE_P(Kinds, UpdateTest, ::testing::ValuesIn(kinds()), [](const auto& kind) {
  return std::string(name_of(kind.param.dtype)) + "_" + kind.param.device;
});

}  // namespace
}  // namespace carillon::testing
