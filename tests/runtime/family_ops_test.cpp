// Ops that only some families need: the reference against central differences in float64 and values computed by hand;
// all other backends against the reference.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/backend.h"
#include "tests/support/op_test.h"

namespace carillon::testing {
namespace {

constexpr DType kType = DType::kFloat64;

class FamilyGradient : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> reference_ = make_backend({.device = "reference"});
};

TEST_F(FamilyGradient, GeluGate) {
  const RandomTensor gate(kType, {3, 4}, 1), up(kType, {3, 4}, 2), dy(kType, {3, 4}, 3), y(kType, {3, 4}, 4);
  const auto loss = [&] {
    reference_->swiglu_forward(y, gate, up, GateActivation::kGeluTanh);
    return dot(y, dy);
  };
  loss();
  const double z = values_of(gate)[0], u = values_of(up)[0];
  const double inside = std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z);
  EXPECT_NEAR(values_of(y)[0], 0.5 * z * (1 + std::tanh(inside)) * u, 1e-14);
  const RandomTensor dg(kType, {3, 4}, 5), du(kType, {3, 4}, 6), again(kType, {3, 4}, 7);
  reference_->swiglu_backward(dg, du, again, dy, gate, up, GateActivation::kGeluTanh);
  EXPECT_EQ(values_of(again), values_of(y));
  expect_gradient(dg, gate, loss);
  expect_gradient(du, up, loss);
}

TEST_F(FamilyGradient, NormWithOffset) {
  const RandomTensor x(kType, {5, 7}, 1), weight(kType, {7}, 2), dy(kType, {5, 7}, 3), y(kType, {5, 7}, 4),
      rstd(kType, {5}, 5);
  NormOptions options;
  options.weight_offset = 1;
  const auto loss = [&] {
    reference_->rmsnorm_forward(y, rstd, x, weight, 1e-3, options);
    return dot(y, dy);
  };
  loss();
  const RandomTensor dx(kType, {5, 7}, 6), dw(kType, {7}, 7, 0, 0.0);
  reference_->rmsnorm_backward(dx, dw, dy, x, weight, rstd, /*accumulate=*/false, options);
  expect_gradient(dx, x, loss);
  expect_gradient(dw, weight, loss);
}

// Two halves of a row, each with the sums over both, give the same as the whole row.
TEST_F(FamilyGradient, NormOfSplitRows) {
  const RandomTensor x(kType, {4, 10}, 1), weight(kType, {10}, 2), dy(kType, {4, 10}, 3), whole(kType, {4, 10}, 4),
      rstd(kType, {4}, 5), y(kType, {4, 10}, 6), r(kType, {4}, 7), dx(kType, {4, 10}, 8), dx_split(kType, {4, 10}, 9),
      dw(kType, {10}, 10, 0, 0.0), dw_split(kType, {10}, 11, 0, 0.0), sums(kType, {4}, 12), part(kType, {4}, 13);
  reference_->rmsnorm_forward(whole, rstd, x, weight, 1e-3);
  reference_->rmsnorm_backward(dx, dw, dy, x, weight, rstd);
  const auto half = [](Tensor t, int64_t which) { return t.slice(t.rank() - 1, 5 * which, 5 * which + 5); };
  NormOptions options;
  options.sums = sums;
  options.columns = 10;
  reference_->fill(sums, 0);
  for (const int64_t which : {0, 1}) {
    reference_->row_dot(part, half(x, which), half(x, which), {}, 0);
    reference_->add(sums, part);
  }
  for (const int64_t which : {0, 1})
    reference_->rmsnorm_forward(half(y, which), r, half(x, which), half(weight, which), 1e-3, options);
  EXPECT_LT(relative_distance(y, whole), 1e-14);
  reference_->fill(sums, 0);
  for (const int64_t which : {0, 1}) {
    reference_->row_dot(part, half(dy, which), half(x, which), half(weight, which), 0);
    reference_->add(sums, part);
  }
  for (const int64_t which : {0, 1})
    reference_->rmsnorm_backward(half(dx_split, which), half(dw_split, which), half(dy, which), half(x, which),
                                 half(weight, which), r, /*accumulate=*/false, options);
  EXPECT_LT(relative_distance(dx_split, dx), 1e-13);
  EXPECT_LT(relative_distance(dw_split, dw), 1e-13);
}

TEST_F(FamilyGradient, CappedLogits) {
  const double cap = 1.5;
  const RandomTensor logits(kType, {4, 6}, 1), weight(kType, {4}, 2), work(kType, {4, 6}, 3), maximum(kType, {4}, 4),
      sums(kType, {2, 4}, 5), losses(kType, {4}, 6), gradient(kType, {4, 6}, 7);
  std::vector<int64_t> target{2, -1, 5, 0};
  const Tensor targets = Tensor::of(target, {4});
  const auto run = [&](bool with_gradient) {
    reference_->copy(work, logits);
    reference_->soft_cap(work, cap);
    reference_->cross_entropy_maximum(maximum, work);
    reference_->cross_entropy_sums(sums, work, maximum, targets, 0);
    reference_->cross_entropy_finish(losses, with_gradient ? work : Tensor(), work, maximum, sums, targets, weight, 0,
                                     cap);
    return dot(losses, weight);
  };
  run(true);
  reference_->copy(gradient, work);
  expect_gradient(gradient, logits, [&] { return run(false); });
}

TEST_F(FamilyGradient, AttentionSinks) {
  const int64_t rows = 5, heads = 2, width = 3;
  const RandomTensor q(kType, {1, rows, heads, width}, 1), k(kType, {1, rows, 1, width}, 2),
      v(kType, {1, rows, 1, width}, 3), dout(kType, {1, rows, heads, width}, 4), out(kType, {1, rows, heads, width}, 5),
      lse(kType, {1, heads, rows}, 6), accumulator(kType, {1, rows, heads, width}, 7),
      maximum(kType, {1, heads, rows}, 8), sum(kType, {1, heads, rows}, 9), sinks(kType, {heads}, 10);
  std::vector<int64_t> index(rows), first{0, 0, 2, 2, 3};
  std::iota(index.begin(), index.end(), 0);
  const AttentionMask mask{Tensor::of(index, {rows}), Tensor::of(first, {1, rows}), Tensor::of(index, {rows}), {}};
  const AttentionState state{accumulator, maximum, sum};
  const auto loss = [&] {
    reference_->attention_begin(state, sinks);
    reference_->attention_forward(state, q, k, v, mask, 0.6);
    reference_->attention_finish(out, lse, state);
    return dot(out, dout);
  };
  loss();
  // The first row sees one key in addition to the sink.
  const std::vector<double> keys = values_of(k), queries = values_of(q), values = values_of(v);
  const double score = 0.6 * (queries[0] * keys[0] + queries[1] * keys[1] + queries[2] * keys[2]);
  const double share = std::exp(score) / (std::exp(score) + std::exp(values_of(sinks)[0]));
  EXPECT_NEAR(values_of(out)[0], share * values[0], 1e-14);
  const RandomTensor delta(kType, {1, heads, rows}, 11), dq(kType, {1, rows, heads, width}, 12, 0, 0.0),
      dk(kType, {1, rows, 1, width}, 13, 0, 0.0), dv(kType, {1, rows, 1, width}, 14, 0, 0.0),
      dsinks(kType, {heads}, 15, 0, 0.0);
  reference_->attention_delta(delta, dout, out);
  reference_->attention_sinks_backward(dsinks, sinks, lse, delta);
  reference_->attention_backward(dq, dk, dv, q, k, v, dout, out, lse, delta, mask, 0.6);
  expect_gradient(dsinks, sinks, loss);
  expect_gradient(dq, q, loss);
  expect_gradient(dk, k, loss);
}

class FamilyOps : public OpTest {};

TEST_P(FamilyOps, GeluGate) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {7, 65}, {5, 512}})
    for (const int64_t gap : {0, 8}) {
      const std::vector<int64_t> shape{rows, width};
      const RandomTensor gate(type_, shape, 1, gap), up(type_, shape, 2, gap), dy(type_, shape, 3, gap),
          y(type_, shape, 4), z(type_, shape, 5), dg(type_, shape, 6), du(type_, shape, 7), eg(type_, shape, 8),
          eu(type_, shape, 9);
      reference_->swiglu_forward(y, gate, up, GateActivation::kGeluTanh);
      fast_->swiglu_forward(z, gate, up, GateActivation::kGeluTanh);
      EXPECT_LT(relative_distance(z, y), bound_);
      reference_->swiglu_backward(dg, du, y, dy, gate, up, GateActivation::kGeluTanh);
      fast_->swiglu_backward(eg, eu, z, dy, gate, up, GateActivation::kGeluTanh);
      EXPECT_LT(relative_distance(z, y), bound_);
      EXPECT_LT(relative_distance(eg, dg), bound_);
      EXPECT_LT(relative_distance(eu, du), bound_);
    }
}

TEST_P(FamilyOps, NormVariants) {
  for (const int64_t channels : {3, 40, 1040})
    for (const bool given : {false, true}) {
      const std::vector<int64_t> shape{6, channels};
      const RandomTensor x(type_, shape, 1, 8), dy(type_, shape, 2, 8), weight(type_, {channels}, 3),
          y(type_, shape, 4), z(type_, shape, 5), r(wide_, {6}, 6), s(wide_, {6}, 7), dw(wide_, {channels}, 8),
          ew(wide_, {channels}, 8), dx(type_, shape, 9), ex(type_, shape, 10), sums(wide_, {6}, 11);
      NormOptions options;
      options.weight_offset = 1;
      if (given) {
        reference_->row_dot(sums, x, x, {}, 0);
        options.sums = sums;
        options.columns = channels + 5;
      }
      reference_->rmsnorm_forward(y, r, x, weight, 1e-5, options);
      fast_->rmsnorm_forward(z, s, x, weight, 1e-5, options);
      EXPECT_LT(relative_distance(z, y), bound_);
      EXPECT_LT(relative_distance(s, r), bound_);
      reference_->rmsnorm_backward(dx, dw, dy, x, weight, r, /*accumulate=*/false, options);
      fast_->rmsnorm_backward(ex, ew, dy, x, weight, r, /*accumulate=*/false, options);
      EXPECT_LT(relative_distance(ex, dx), bound_);
      EXPECT_LT(relative_distance(ew, dw), bound_);
    }
}

TEST_P(FamilyOps, RowsAndCaps) {
  for (const int64_t width : {1, 24, 65}) {
    const RandomTensor a(type_, {9, width}, 1, 8), b(type_, {9, width}, 2, 8), weight(type_, {width}, 3),
        s(wide_, {9}, 4), t(wide_, {9}, 5), x(type_, {9, 3, width}, 6, 8), y(type_, {9, 3, width}, 6, 8),
        factor(wide_, {9}, 7), u(type_, {9, width}, 8), v(type_, {9, width}, 8);
    // Sums of products with mixed signs may cancel, so the bound is relative to the size of the terms.
    for (const Tensor& by : {Tensor(), static_cast<Tensor>(weight)}) {
      reference_->row_dot(s, a, b, by, 1);
      fast_->row_dot(t, a, b, by, 1);
      const std::vector<double> expected = values_of(s), got = values_of(t);
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_NEAR(got[i], expected[i], bound_ * static_cast<double>(width) * 10);
    }
    reference_->scale_rows(x, factor);
    fast_->scale_rows(y, factor);
    EXPECT_LT(relative_distance(y, x), bound_);
    reference_->soft_cap(u, 0.7);
    fast_->soft_cap(v, 0.7);
    EXPECT_LT(relative_distance(v, u), bound_);
    reference_->scale(u, 1.7);
    fast_->scale(v, 1.7);
    EXPECT_LT(relative_distance(v, u), bound_);
  }
}

TEST_P(FamilyOps, NormWithoutAGradientByItsWeight) {
  const RandomTensor x(type_, {6, 40}, 1, 8), dy(type_, {6, 40}, 2, 8), weight(type_, {40}, 3), r(wide_, {6}, 6),
      dw(wide_, {40}, 8), dx(type_, {6, 40}, 9), ex(type_, {6, 40}, 10), y(type_, {6, 40}, 11);
  reference_->rmsnorm_forward(y, r, x, weight, 1e-5);
  for (Backend* backend : {reference_.get(), fast_.get()}) {
    backend->rmsnorm_backward(dx, dw, dy, x, weight, r);
    backend->rmsnorm_backward(ex, {}, dy, x, weight, r);
    EXPECT_EQ(values_of(ex), values_of(dx));
  }
}

// The same elements are dropped on every backend and in any part of the columns; the result may be added to existing
// values.
TEST_P(FamilyOps, Dropout) {
  std::vector<int64_t> rows{5, 0, (int64_t{7} << 32) + 3, 5, 12};
  const Tensor row = Tensor::of(rows, {5});
  for (const int64_t width : {1, 6, 65}) {
    const RandomTensor x(type_, {5, width}, 1, 8), y(type_, {5, width}, 2, 8), z(type_, {5, width}, 2, 8);
    for (const bool accumulate : {false, true}) {
      const Dropout dropout{0.3, 11, 17, 5};
      reference_->dropout(y, x, row, dropout, accumulate);
      fast_->dropout(z, x, row, dropout, accumulate);
      EXPECT_LT(relative_distance(z, y), bound_);
      const std::vector<double> one = values_of(y), other = values_of(z);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_EQ(one[i] == 0, other[i] == 0) << i;
    }
    if (width < 6) continue;
    const RandomTensor whole(type_, {5, width}, 3, 8), part(type_, {5, width - 3}, 4, 8);
    fast_->dropout(whole, x, row, {0.3, 11, 17, 5});
    fast_->dropout(part, x.tensor().slice(1, 3, width), row, {0.3, 11, 17, 8});
    const std::vector<double> all = values_of(whole), some = values_of(part);
    for (int64_t n = 0; n < 5; ++n)
      for (int64_t c = 3; c < width; ++c)
        EXPECT_EQ(some[static_cast<size_t>(n * (width - 3) + c - 3)], all[static_cast<size_t>(n * width + c)]);
    // Rows 0 and 3 are the same row.
    for (int64_t c = 0; c < width; ++c)
      EXPECT_EQ(all[static_cast<size_t>(c)] == 0, all[static_cast<size_t>(3 * width + c)] == 0);
  }
}

TEST_P(FamilyOps, DropoutKeepsItsShare) {
  const int64_t width = 4000;
  std::vector<int64_t> rows{1, 2, 3, 4, 5};
  const RandomTensor x(type_, {5, width}, 1, 8), y(type_, {5, width}, 2, 8);
  reference_->fill(x, 1);
  fast_->dropout(y, x, Tensor::of(rows, {5}), {0.25, 3, 1, 0});
  int64_t kept = 0;
  for (const double value : values_of(y)) {
    kept += value != 0;
    EXPECT_NEAR(value, value == 0 ? 0 : 4.0 / 3, 0.01);
  }
  // Five standard deviations of a binomial are 306.
  EXPECT_NEAR(static_cast<double>(kept), 0.75 * 5 * width, 310);
}

TEST_P(FamilyOps, CappedLogits) {
  std::vector<int64_t> target{2, -1, 64, 0, 30};
  const Tensor targets = Tensor::of(target, {5});
  const RandomTensor logits(wide_, {5, 65}, 1), weight(wide_, {5}, 2), maximum(wide_, {5}, 3), sums(wide_, {2, 5}, 4),
      l(wide_, {5}, 5), m(wide_, {5}, 6), g(type_, {5, 65}, 7), h(type_, {5, 65}, 8);
  reference_->soft_cap(logits, 2);
  reference_->cross_entropy_maximum(maximum, logits);
  reference_->cross_entropy_sums(sums, logits, maximum, targets, 0);
  reference_->cross_entropy_finish(l, g, logits, maximum, sums, targets, weight, 0, 2);
  fast_->cross_entropy_finish(m, h, logits, maximum, sums, targets, weight, 0, 2);
  EXPECT_LT(relative_distance(m, l), bound_);
  EXPECT_LT(relative_distance(h, g), bound_);
}

// A state that starts with sinks accepts blocks of keys like any other.
TEST_P(FamilyOps, AttentionSinks) {
  const int64_t rows = 70, heads = 4, kv_heads = 2, width = 64;
  const RandomTensor q(type_, {1, rows, heads, width}, 1), k(type_, {1, rows, kv_heads, width}, 2),
      v(type_, {1, rows, kv_heads, width}, 3), sinks(type_, {heads}, 4), delta(wide_, {1, heads, rows}, 5);
  std::vector<int64_t> index(rows), first(rows, 0);
  std::iota(index.begin(), index.end(), 0);
  const AttentionMask mask{Tensor::of(index, {rows}), Tensor::of(first, {1, rows}), Tensor::of(index, {rows}), {}};
  const auto run = [&](Backend& backend, Tensor out, Tensor lse, Tensor dsinks) {
    const RandomTensor accumulator(wide_, {1, rows, heads, width}, 6), maximum(wide_, {1, heads, rows}, 7),
        sum(wide_, {1, heads, rows}, 8);
    const AttentionState state{accumulator, maximum, sum};
    backend.attention_begin(state, sinks);
    backend.attention_forward(state, q, k, v, mask, 0.125);
    backend.attention_finish(out, lse, state);
    backend.attention_sinks_backward(dsinks, sinks, lse, delta);
  };
  const RandomTensor out(type_, {1, rows, heads, width}, 9), lse(wide_, {1, heads, rows}, 10), ds(wide_, {heads}, 11),
      out2(type_, {1, rows, heads, width}, 12), lse2(wide_, {1, heads, rows}, 13), ds2(wide_, {heads}, 11);
  run(*reference_, out, lse, ds);
  run(*fast_, out2, lse2, ds2);
  EXPECT_LT(relative_distance(out2, out), bound_);
  EXPECT_LT(relative_distance(lse2, lse), bound_);
  EXPECT_LT(relative_distance(ds2, ds), 10 * bound_);

  // A call that begins and ends as well.
  const RandomTensor accumulator(wide_, {1, rows, heads, width}, 14), maximum(wide_, {1, heads, rows}, 15),
      sum(wide_, {1, heads, rows}, 16), out3(type_, {1, rows, heads, width}, 17), lse3(wide_, {1, heads, rows}, 18);
  fast_->attention_forward({accumulator, maximum, sum}, q, k, v, mask, 0.125, {true, sinks, out3, lse3});
  EXPECT_EQ(values_of(out3), values_of(out2));
  EXPECT_EQ(values_of(lse3), values_of(lse2));
}

INSTANTIATE_TEST_SUITE_P(Kinds, FamilyOps, ::testing::ValuesIn(kinds()), [](const auto& kind) {
  return std::string(name_of(kind.param.dtype)) + "_" + kind.param.device;
});

}  // namespace
}  // namespace carillon::testing
