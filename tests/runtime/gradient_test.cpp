// The reference's backward ops against central differences of its forward ops, in float64; and cases computed by hand.
#include <gtest/gtest.h>

#include "runtime/backend.h"
#include "tests/support/op_test.h"

namespace carillon::testing {
namespace {

constexpr DType kType = DType::kFloat64;
const std::unique_ptr<Backend> reference = make_backend({.device = "reference"});

TEST(Gradient, RmsNorm) {
  const RandomTensor x(kType, {5, 7}, 1), weight(kType, {7}, 2), dy(kType, {5, 7}, 3), y(kType, {5, 7}, 4),
      rstd(kType, {5}, 5);
  const auto loss = [&] {
    reference->rmsnorm_forward(y, rstd, x, weight, 1e-3);
    return dot(y, dy);
  };
  loss();
  const RandomTensor dx(kType, {5, 7}, 6), dw(kType, {7}, 7, 0, 0.0);
  reference->rmsnorm_backward(dx, dw, dy, x, weight, rstd);
  expect_gradient(dx, x, loss);
  expect_gradient(dw, weight, loss);
}

TEST(Gradient, Swiglu) {
  const RandomTensor gate(kType, {3, 4}, 1), up(kType, {3, 4}, 2), dy(kType, {3, 4}, 3), y(kType, {3, 4}, 4);
  const auto loss = [&] {
    reference->swiglu_forward(y, gate, up);
    return dot(y, dy);
  };
  const RandomTensor dg(kType, {3, 4}, 5), du(kType, {3, 4}, 6);
  const RandomTensor again(kType, {3, 4}, 7);
  reference->swiglu_backward(dg, du, again, dy, gate, up);
  expect_gradient(dg, gate, loss);
  expect_gradient(du, up, loss);
}

TEST(Gradient, RotationTurnsBack) {
  const RandomTensor x(kType, {4, 2, 6}, 1), dy(kType, {4, 2, 6}, 2), cosine(kType, {9, 3}, 3), sine(kType, {9, 3}, 4);
  std::vector<int64_t> position{0, 3, 3, 8};
  const auto loss = [&] {
    RandomTensor y(kType, {4, 2, 6}, 1, 0, 0.0);
    reference->copy(y, x);
    reference->rotate(y, Tensor::of(position, {4}), cosine, sine, false);
    return dot(y, dy);
  };
  const RandomTensor dx(kType, {4, 2, 6}, 5);
  reference->copy(dx, dy);
  reference->rotate(dx, Tensor::of(position, {4}), cosine, sine, true);
  expect_gradient(dx, x, loss);
}

// Tables made from frequencies, for a head that is wider than its rotated pairs.
TEST(Gradient, RotationByItsFrequencies) {
  const RandomTensor x(kType, {5, 2, 8}, 1), dy(kType, {5, 2, 8}, 2), frequency(kType, {3}, 3);
  const RandomTensor y(kType, {5, 2, 8}, 4), cosine(kType, {9, 3}, 5), sine(kType, {9, 3}, 6);
  std::vector<int64_t> position{0, 3, 3, 8, 1};
  constexpr double kFactor = 1.25;  // the attention factor
  const auto loss = [&] {
    for (int64_t row = 0; row < 9; ++row)
      for (int64_t j = 0; j < 3; ++j) {
        const double angle = static_cast<double>(row) * frequency.tensor().data<double>()[j];
        cosine.tensor().data<double>()[row * 3 + j] = kFactor * std::cos(angle);
        sine.tensor().data<double>()[row * 3 + j] = kFactor * std::sin(angle);
      }
    reference->copy(y, x);
    reference->rotate(y, Tensor::of(position, {5}), cosine, sine, false);
    return dot(y, dy);
  };
  loss();
  const RandomTensor rates(kType, {3}, 7, 0, 0.0);
  reference->rotation_gradient(rates, y, dy, Tensor::of(position, {5}));
  expect_gradient(rates, frequency, loss);
}

TEST(Gradient, EmbeddingAndBias) {
  const RandomTensor table(kType, {5, 3}, 1), dy(kType, {6, 3}, 2), y(kType, {6, 3}, 3), bias(kType, {3}, 4);
  std::vector<int64_t> ids{10, 14, 12, 9, 10, 15};  // 9 and 15 are rows of other ranks
  const auto loss = [&] {
    reference->embedding_forward(y, Tensor::of(ids, {6}), table, 10);
    reference->add_bias(y, bias);
    return dot(y, dy);
  };
  const RandomTensor dtable(kType, {5, 3}, 5, 0, 0.0), dbias(kType, {3}, 6, 0, 0.0);
  reference->embedding_backward(dtable, Tensor::of(ids, {6}), dy, 10);
  reference->bias_backward(dbias, dy);
  expect_gradient(dtable, table, loss);
  expect_gradient(dbias, bias, loss);
}

TEST(Gradient, CrossEntropy) {
  const RandomTensor logits(kType, {4, 6}, 1), weight(kType, {4}, 2), work(kType, {4, 6}, 3), maximum(kType, {4}, 4),
      sums(kType, {2, 4}, 5), losses(kType, {4}, 6);
  std::vector<int64_t> target{2, -1, 5, 0};
  const Tensor targets = Tensor::of(target, {4});
  const auto run = [&](bool gradient) {
    reference->copy(work, logits);
    reference->cross_entropy_maximum(maximum, work);
    reference->cross_entropy_sums(sums, work, maximum, targets, 0);
    reference->cross_entropy_finish(losses, gradient ? work : Tensor(), work, maximum, sums, targets, weight, 0);
    return dot(losses, weight);
  };
  const RandomTensor gradient(kType, {4, 6}, 7);
  run(true);
  reference->copy(gradient, work);
  expect_gradient(gradient, logits, [&] { return run(false); });
}

TEST(Gradient, Attention) {
  const int64_t rows = 6, heads = 2, width = 3;
  const RandomTensor q(kType, {1, rows, heads, width}, 1), k(kType, {1, rows, 1, width}, 2),
      v(kType, {1, rows, 1, width}, 3), dout(kType, {1, rows, heads, width}, 4), out(kType, {1, rows, heads, width}, 5),
      lse(kType, {1, heads, rows}, 6), accumulator(kType, {1, rows, heads, width}, 7),
      maximum(kType, {1, heads, rows}, 8), sum(kType, {1, heads, rows}, 9);
  std::vector<int64_t> index(rows), first{0, 0, 2, 2, 3, 100};  // two documents, a window, a row that sees nothing
  std::iota(index.begin(), index.end(), 0);
  const AttentionMask mask{Tensor::of(index, {rows}), Tensor::of(first, {1, rows}), Tensor::of(index, {rows})};
  const AttentionState state{accumulator, maximum, sum};
  const auto loss = [&] {
    reference->attention_begin(state);
    reference->attention_forward(state, q, k, v, mask, 0.6);
    reference->attention_finish(out, lse, state);
    return dot(out, dout);
  };
  loss();
  const RandomTensor delta(kType, {1, heads, rows}, 10), dq(kType, {1, rows, heads, width}, 11, 0, 0.0),
      dk(kType, {1, rows, 1, width}, 12, 0, 0.0), dv(kType, {1, rows, 1, width}, 13, 0, 0.0);
  reference->attention_delta(delta, dout, out);
  reference->attention_backward(dq, dk, dv, q, k, v, dout, out, lse, delta, mask, 0.6);
  expect_gradient(dq, q, loss);
  expect_gradient(dk, k, loss);
  expect_gradient(dv, v, loss);
}

// In one call each way, from fused rows that are turned before and whose gradients are turned back.
TEST(Gradient, AttentionOfTurnedRowsInOneCall) {
  const int64_t rows = 6, heads = 2, width = 4;
  const RandomTensor qkv(kType, {rows, heads + 2, width}, 1), turned(kType, {rows, heads + 2, width}, 2),
      gradient(kType, {rows, heads + 2, width}, 3), dout(kType, {1, rows, heads, width}, 4),
      out(kType, {1, rows, heads, width}, 5), lse(kType, {1, heads, rows}, 6),
      accumulator(kType, {1, rows, heads, width}, 7), maximum(kType, {1, heads, rows}, 8),
      sum(kType, {1, heads, rows}, 9), delta(kType, {1, heads, rows}, 10), dq(kType, {1, rows, heads, width}, 11),
      dk(kType, {1, rows, 1, width}, 12), dv(kType, {1, rows, 1, width}, 13), cosine(kType, {9, 2}, 14),
      sine(kType, {9, 2}, 15), sinks(kType, {heads}, 16);
  std::vector<int64_t> index(rows), first{0, 0, 2, 2, 3, 100}, place{0, 1, 0, 1, 2, 8};
  std::iota(index.begin(), index.end(), 0);
  const Tensor position = Tensor::of(place, {rows});
  const AttentionMask mask{Tensor::of(index, {rows}), Tensor::of(first, {1, rows}), Tensor::of(index, {rows})};
  const auto part = [&](const RandomTensor& x, int64_t begin, int64_t count) {
    return x.tensor().slice(1, begin, begin + count).split_dim(0, 1);
  };
  const auto q = [&] { return part(turned, 0, heads); };
  const auto k = [&] { return part(turned, heads, 1); };
  const auto v = [&] { return part(turned, heads + 1, 1); };
  const auto loss = [&] {
    reference->copy(turned, qkv);
    reference->rotate(turned.tensor().slice(1, 0, heads + 1), position, cosine, sine, false);
    reference->attention_forward({accumulator, maximum, sum}, q(), k(), v(), mask, 0.6, {true, sinks, out, lse});
    return dot(out, dout);
  };
  loss();
  reference->attention_backward(dq, dk, dv, q(), k(), v(), dout, out, lse, delta, mask, 0.6,
                                {true, true, true, part(gradient, 0, heads), part(gradient, heads, 1),
                                 part(gradient, heads + 1, 1), position, cosine, sine});
  expect_gradient(gradient, qkv, loss);
  const RandomTensor dsinks(kType, {heads}, 17, 0, 0.0);
  reference->attention_sinks_backward(dsinks, sinks, lse, delta);
  expect_gradient(dsinks, sinks, loss);
}

TEST(Gradient, RmsNormOfASum) {
  const RandomTensor x(kType, {5, 7}, 1), branch(kType, {5, 7}, 2), weight(kType, {7}, 3), dy(kType, {5, 7}, 4),
      sum(kType, {5, 7}, 5), y(kType, {5, 7}, 6), rstd(kType, {5}, 7), dx(kType, {5, 7}, 8), dw(kType, {7}, 9);
  const auto loss = [&] {
    reference->sum_rmsnorm_forward(sum, y, rstd, x, branch, weight, 1e-3);
    return dot(y, dy);
  };
  loss();
  NormOptions options;
  options.overwrite_weight = true;
  reference->rmsnorm_backward(dx, dw, dy, sum, weight, rstd, /*accumulate=*/false, options);
  expect_gradient(dx, x, loss);
  expect_gradient(dx, branch, loss);
  expect_gradient(dw, weight, loss);
}

TEST(Reference, ByHand) {
  std::vector<double> a{1, 2, 3, 4}, b{5, 6, 7, 8}, c(4), x{3, 4}, w{2, 1}, y(2), r(1);
  reference->matmul(Tensor::of(c, {2, 2}), Tensor::of(a, {2, 2}), Tensor::of(b, {2, 2}), Transpose::kNo,
                    Transpose::kYes);
  EXPECT_EQ(c, (std::vector<double>{17, 23, 39, 53}));
  reference->rmsnorm_forward(Tensor::of(y, {1, 2}), Tensor::of(r, {1}), Tensor::of(x, {1, 2}), Tensor::of(w, {2}), 0);
  EXPECT_NEAR(y[0], 2 * 3 / std::sqrt(12.5), 1e-15);
  // One step of AdamW from zero moments moves by lr · sign(gradient), after decay.
  std::vector<double> weight{1.0}, m{0}, v{0}, g{-3};
  const Tensor t = Tensor::of(weight, {1});
  const AdamWTensors tensors[] = {{t, t, Tensor::of(m, {1}), Tensor::of(v, {1}), Tensor::of(g, {1})}};
  reference->adamw(tensors, {0.1, 0.9, 0.95, 0, 0.5, 1, 1});
  EXPECT_NEAR(weight[0], 1.0 * (1 - 0.1 * 0.5) + 0.1, 1e-15);
}

}  // namespace
}  // namespace carillon::testing
