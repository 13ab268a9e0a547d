// Every op of a fast backend against the reference: every element type; sizes that do and do not fill vectors, tiles
// and warps; rows with gaps; empty tensors. On the CPU: every instruction set of this machine. With
// CARILLON_TEST_DEVICE=cuda: the CUDA library that CARILLON_CUDA_LIBRARY names, emulated or real (CMakeLists.txt).
#include "runtime/backend.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "tests/support/op_test.h"

namespace carillon::testing {
namespace {

class BackendTest : public OpTest {};

TEST_P(BackendTest, Matmul) {
  struct Size {
    int64_t m, n, k;
  };
  for (const Size s : {Size{1, 1, 1}, Size{7, 5, 3}, Size{65, 33, 17}, Size{96, 130, 64}, Size{3, 4, 0},
                       Size{1, 70, 300}, Size{2, 33, 1000}, Size{4, 130, 67}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const bool accumulate : {false, true})
          for (const DType out : {type_, wide_})
            for (const int64_t gap : {0, 5}) {
              const RandomTensor a(type_, ta ? std::vector{s.k, s.m} : std::vector{s.m, s.k}, 1, gap);
              const RandomTensor b(type_, tb ? std::vector{s.n, s.k} : std::vector{s.k, s.n}, 2, gap);
              const RandomTensor c(out, {s.m, s.n}, 3, gap), d(out, {s.m, s.n}, 3, gap);
              reference_->matmul(c, a, b, Transpose{ta}, Transpose{tb}, accumulate);
              fast_->matmul(d, a, b, Transpose{ta}, Transpose{tb}, accumulate);
              ASSERT_LT(relative_distance(d, c), std::max(bound_of(out), wide_ == DType::kFloat64 ? 1e-13 : 2e-6))
                  << s.m << " " << s.n << " " << s.k << " " << ta << tb << accumulate << gap;
            }
}

// Large enough to be cut into pieces, against the float64 product, which is not cut. Values repeat, because generating
// millions of random numbers would take longer than multiplying them.
TEST_P(BackendTest, MatmulInPieces) {
  if (type_ == DType::kFloat64 || GetParam().device == "cuda") return;  // only the CPU cuts products
  const RandomTensor drawn(DType::kFloat64, {1021}, 1);
  std::vector<double> a64, b64, c64;
  std::vector<char> a_memory, b_memory, c_memory;
  const auto values = [&](std::vector<double>& wide, std::vector<char>& narrow, DType dtype, int64_t rows,
                          int64_t columns, size_t seed) {
    wide.resize(static_cast<size_t>(rows * columns));
    for (size_t i = 0; i < wide.size(); ++i) wide[i] = drawn.tensor().data<double>()[(i * 13 + seed) % 1021];
    narrow.resize(wide.size() * size_of(dtype));
    const Tensor x(narrow.data(), dtype, {rows, columns});
    fast_->copy(x, Tensor::of(wide, {rows, columns}));
    fast_->copy(Tensor::of(wide, {rows, columns}), x);
    return x;
  };
  struct Case {
    int64_t m, n, k;
    bool ta, tb, accumulate;
    DType out;
  };
  for (const Case s : {Case{128, 3000, 1100, false, true, false, type_},
                       {130, 3000, 1100, true, false, true, wide_},
                       {130, 1100, 3000, false, false, false, wide_},
                       {2050, 1100, 3000, true, true, true, type_},
                       {4100, 3000, 1100, false, true, false, type_}}) {  // packed with AMX too
    const Tensor a = values(a64, a_memory, type_, s.ta ? s.k : s.m, s.ta ? s.m : s.k, 1);
    const Tensor b = values(b64, b_memory, type_, s.tb ? s.n : s.k, s.tb ? s.k : s.n, 2);
    const Tensor c = values(c64, c_memory, s.out, s.m, s.n, 3);
    const Tensor expected = Tensor(c64.data(), DType::kFloat64, c.shape());
    fast_->matmul(expected, Tensor(a64.data(), DType::kFloat64, a.shape()),
                  Tensor(b64.data(), DType::kFloat64, b.shape()), Transpose{s.ta}, Transpose{s.tb}, s.accumulate);
    fast_->matmul(c, a, b, Transpose{s.ta}, Transpose{s.tb}, s.accumulate);
    ASSERT_LT(relative_distance(c, expected), bound_of(s.out)) << s.m << " " << s.n << " " << s.k;
  }
}

// So that a token is generated alike alone, in a batch, and on any number of threads.
TEST_P(BackendTest, ARowOfAFewIsTheSameAloneAndOnAnyThreads) {
  if (GetParam().device == "cuda") return;  // promises this for no product
  const RandomTensor a(type_, {4, 600}, 1, 3), b(type_, {900, 600}, 2, 5);
  const RandomTensor together(wide_, {4, 900}, 3), alone(wide_, {4, 900}, 4);
  fast_->matmul(together, a, b, Transpose::kNo, Transpose::kYes);
  for (int threads : {1, 2, 3})
    for (int64_t row = 0; row < 4; ++row) {
      make(threads)->matmul(alone.tensor().rows(row, row + 1), a.tensor().rows(row, row + 1), b, Transpose::kNo,
                            Transpose::kYes);
      ASSERT_EQ(values_of(alone.tensor().rows(row, row + 1)), values_of(together.tensor().rows(row, row + 1)))
          << threads << " threads, row " << row;
    }
}

TEST_P(BackendTest, CopiesAndSums) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{0, 3}, {3, 5}, {2, 7, 33}, {3, 2, 64}, {70000}})
    for (const DType other : {DType::kFloat64, DType::kFloat32, DType::kBFloat16})
      for (const int64_t gap : {0, 3, 8}) {
        const RandomTensor x(other, shape, 1, gap), y(type_, shape, 2, gap), z(type_, shape, 2, gap);
        reference_->copy(y, x);
        fast_->copy(z, x);
        ASSERT_EQ(relative_distance(z, y), 0);
        reference_->add(y, x);
        fast_->add(z, x);
        ASSERT_EQ(relative_distance(z, y), 0);
        const RandomTensor a(type_, shape, 7, gap), b(type_, shape, 8, 2 * gap);
        reference_->sum(y, a, b);
        fast_->sum(z, a, b);
        ASSERT_EQ(relative_distance(z, y), 0);
        reference_->sum(y, y, b);
        fast_->sum(z, z, b);
        ASSERT_EQ(relative_distance(z, y), 0);
        reference_->scale(y, -0.25);
        fast_->scale(z, -0.25);
        ASSERT_EQ(relative_distance(z, y), 0);
        fast_->fill(z, 0);
        ASSERT_EQ(relative_distance(z, RandomTensor(type_, shape, 2, 0, 0.0)), 0);
      }
  const RandomTensor x(type_, {123457}, 4);
  EXPECT_NEAR(sum_of_squares(*fast_, x) / sum_of_squares(*reference_, x), 1, 1e-12);
  EXPECT_EQ(sum_of_squares(*fast_, x), sum_of_squares(*make(1), x)) << "the same bits whatever the threads";
  EXPECT_EQ(sum_of_squares(*fast_, x.tensor().slice(0, 0, 0)), 0);
  const RandomTensor moved(type_, {123458}, 4);  // the same numbers, one element later in memory
  reference_->copy(moved.tensor().slice(0, 1, 123458), x);
  EXPECT_EQ(sum_of_squares(*fast_, moved.tensor().slice(0, 1, 123458)), sum_of_squares(*fast_, x))
      << "the same bits wherever the numbers lie";
}

// Any strides: gaps, permuted dims, rows whose elements are not contiguous.
TEST_P(BackendTest, Transfers) {
  const auto device = is_cuda(GetParam().device) ? make_backend({.device = "cuda"}) : make(1);
  const RandomTensor host(type_, {4, 3, 5, 7}, 1);
  Buffer memory = device->allocate(host.tensor().bytes());
  const Tensor whole(memory.data(), type_, {4, 3, 5, 7});
  const auto views = [](Tensor x) {
    return std::vector<Tensor>{x,
                               x.slice(3, 2, 6),
                               x.slice(1, 1, 2),
                               x.slice(3, 4, 5),
                               x.slice(2, 1, 4).slice(0, 1, 3).slice(3, 1, 3),
                               x.slice(3, 2, 3).slice(1, 0, 2),
                               x.slice(0, 2, 2)};
  };
  for (size_t i = 0; i < views(whole).size(); ++i) {
    SCOPED_TRACE(i);
    device->fill(whole, 0);
    const RandomTensor expected(type_, {4, 3, 5, 7}, 1, 0, 0.0), got(type_, {4, 3, 5, 7}, 2);
    reference_->copy(views(expected)[i], views(host)[i]);
    device->upload(views(whole)[i], views(host)[i]);
    device->download(got, whole);
    EXPECT_EQ(relative_distance(got, expected), 0) << "up, and nothing else touched";
    const RandomTensor back(type_, {4, 3, 5, 7}, 1, 0, 0.0);
    device->download(views(back)[i], views(whole)[i]);
    EXPECT_EQ(relative_distance(back, expected), 0) << "down";
  }
}

TEST_P(BackendTest, Embedding) {
  for (const int64_t channels : {1, 37, 64})
    for (const int64_t rows : {1, 200, 2500}) {  // 2500: more than a block of the device sorts
      const int64_t table_rows = 50, first = 10;
      std::vector<int64_t> id(static_cast<size_t>(rows));
      for (int64_t n = 0; n < rows; ++n) id[static_cast<size_t>(n)] = n % 7 == 3 ? 20 : n * 37 % 75;
      const Tensor ids = Tensor::of(id, {rows});
      const RandomTensor table(type_, {table_rows, channels}, 1, 8);
      const RandomTensor y(type_, {rows, channels}, 2, 3), z(type_, {rows, channels}, 3, 3);
      reference_->embedding_forward(y, ids, table, first);
      fast_->embedding_forward(z, ids, table, first);
      EXPECT_EQ(relative_distance(z, y), 0);
      const RandomTensor dy(type_, {rows, channels}, 4, 8);
      const RandomTensor d(wide_, {table_rows, channels}, 5), e(wide_, {table_rows, channels}, 5);
      reference_->embedding_backward(d, ids, dy, first);
      fast_->embedding_backward(e, ids, dy, first);
      // A device sums the gradients of a row in pieces (cuda/ops/embedding.cu); other backends sum them in order.
      const double bound = !is_cuda(GetParam().device) ? 0 : wide_ == DType::kFloat64 ? 1e-14 : 1e-6;
      EXPECT_LE(relative_distance(e, d), bound) << "rows are added in their order";
    }
}

TEST_P(BackendTest, RmsNorm) {
  // 1040: more than a warp handles; 6160 (float64 only): more sums than fit into a block's shared memory.
  std::vector<std::vector<int64_t>> shapes{{1, 1}, {1, 2}, {37, 65}, {9, 3, 20}, {7, 3, 64}, {5, 1040}};
  if (type_ == DType::kFloat64) shapes.push_back({3, 6160});
  for (const std::vector<int64_t>& shape : shapes) {
    const int64_t channels = shape.back(), gap = channels % 8 == 0 ? 8 : 2;
    // With one channel the gradient is the difference of two equal numbers: rounding only, also in the reference.
    const double dx_bound = channels == 1 ? 1e-2 : bound_;
    const std::vector<int64_t> outer(shape.begin(), shape.end() - 1);
    const RandomTensor x(type_, shape, 1, gap), dy(type_, shape, 2, 2 * gap), weight(type_, {channels}, 3);
    const RandomTensor y(type_, shape, 4), z(type_, shape, 5), r(wide_, outer, 6), s(wide_, outer, 7);
    reference_->rmsnorm_forward(y, r, x, weight, 1e-5);
    fast_->rmsnorm_forward(z, s, x, weight, 1e-5);
    EXPECT_LT(relative_distance(z, y), bound_);
    EXPECT_LT(relative_distance(s, r), bound_);
    const RandomTensor dw(wide_, {channels}, 8), ew(wide_, {channels}, 8), dx(type_, shape, 9), ex(type_, shape, 10);
    reference_->rmsnorm_backward(dx, dw, dy, x, weight, r);
    fast_->rmsnorm_backward(ex, ew, dy, x, weight, r);
    EXPECT_LT(relative_distance(ex, dx), dx_bound);
    EXPECT_LT(relative_distance(ew, dw), bound_);
    reference_->rmsnorm_backward(dx, dw, dy, x, weight, r, /*accumulate=*/true);
    fast_->rmsnorm_backward(ex, ew, dy, x, weight, r, /*accumulate=*/true);
    EXPECT_LT(relative_distance(ex, dx), dx_bound);
    EXPECT_LT(relative_distance(ew, dw), bound_);
  }
}

// A norm that also gives the sum it is of; and in place.
TEST_P(BackendTest, NormOfASum) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{1, 1}, {37, 65}, {9, 64}, {5, 1040}}) {
    const int64_t channels = shape.back(), gap = channels % 8 == 0 ? 8 : 2;
    const RandomTensor x(type_, shape, 1, gap), branch(type_, shape, 2, 2 * gap), weight(type_, {channels}, 3);
    const auto make_all = [&] {
      return std::array<RandomTensor, 3>{RandomTensor(type_, shape, 4, gap), RandomTensor(type_, shape, 5),
                                         RandomTensor(wide_, {shape[0]}, 6)};
    };
    const auto expected = make_all(), apart = make_all(), got = make_all();
    reference_->sum_rmsnorm_forward(expected[0], expected[1], expected[2], x, branch, weight, 1e-5);
    fast_->sum(apart[0], x, branch);
    fast_->rmsnorm_forward(apart[1], apart[2], apart[0], weight, 1e-5);
    fast_->sum_rmsnorm_forward(got[0], got[1], got[2], x, branch, weight, 1e-5);
    const RandomTensor own(type_, shape, 1, gap), other(type_, shape, 2, 2 * gap), rstd(wide_, {shape[0]}, 7);
    fast_->sum_rmsnorm_forward(own, other, rstd, own, other, weight, 1e-5);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_LT(relative_distance(got[i], expected[i]), bound_);
      EXPECT_EQ(values_of(got[i]), values_of(apart[i])) << "the bits of the two ops";
    }
    EXPECT_EQ(values_of(own), values_of(got[0]));
    EXPECT_EQ(values_of(other), values_of(got[1]));
  }
}

// What else a norm's backward pass may do: in place of dy, with y again, and in place of what dweight held.
TEST_P(BackendTest, NormBackwardOptions) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{37, 65}, {9, 3, 64}, {5, 1040}}) {
    const int64_t channels = shape.back(), gap = channels % 8 == 0 ? 8 : 2;
    const std::vector<int64_t> outer(shape.begin(), shape.end() - 1);
    const RandomTensor x(type_, shape, 1, gap), dy(type_, shape, 2, gap), weight(type_, {channels}, 3);
    const RandomTensor y(type_, shape, 4), again(type_, shape, 5, gap), rstd(wide_, outer, 6), dx(type_, shape, 7),
        dw(wide_, {channels}, 8, 0, 0.0), ew(wide_, {channels}, 9), own(type_, shape, 2, gap);
    for (Backend* backend : {reference_.get(), fast_.get()}) {
      backend->rmsnorm_forward(y, rstd, x, weight, 1e-5);
      backend->fill(dw, 0);
      backend->rmsnorm_backward(dx, dw, dy, x, weight, rstd);
      NormOptions options;
      options.output = again, options.overwrite_weight = true;
      backend->copy(own, dy);
      backend->rmsnorm_backward(own, ew, own, x, weight, rstd, /*accumulate=*/false, options);
      EXPECT_EQ(values_of(again), values_of(y)) << "the forward pass's bits";
      EXPECT_EQ(values_of(own), values_of(dx));
      EXPECT_EQ(values_of(ew), values_of(dw));
    }
  }
}

// Gradients by weights that are finished together: more than one launch takes, of different widths, some added to.
TEST_P(BackendTest, NormsFinishedTogether) {
  const auto device = is_cuda(GetParam().device) ? make_backend({.device = "cuda"}) : make(1);
  const int64_t rows = 600, most = 96;
  const RandomTensor values(type_, {3, rows, most}, 1), ones(wide_, {rows}, 2, 0, 0.0);
  reference_->fill(ones, 1);
  std::vector<Buffer> memory;
  const auto there = [&](Tensor host) {
    memory.push_back(device->allocate(host.bytes()));
    const Tensor copy(memory.back().data(), host.dtype(), host.shape());
    device->upload(copy, host);
    return copy;
  };
  const Tensor all = there(values), rstd = there(ones);
  for (int round = 0; round < 2; ++round) {
    std::vector<Tensor> open, at_once;
    for (int64_t norm = 0; norm < 19; ++norm) {
      const int64_t channels = norm % 3 == 0 ? most : 8 + norm;
      const RandomTensor before(wide_, {channels}, static_cast<uint64_t>(10 + norm));
      const auto part = [&](int64_t which) {
        return all.rows(which, which + 1).reshape({rows, most}).slice(1, 0, channels);
      };
      for (std::vector<Tensor>* list : {&open, &at_once}) {
        NormOptions options;
        options.deferred = list == &open, options.overwrite_weight = norm % 2 == 0;
        list->push_back(there(before));
        device->rmsnorm_backward(part(0), list->back(), part(1), part(2), part(1).rows(0, 1).reshape({channels}), rstd,
                                 /*accumulate=*/false, options);
      }
    }
    device->finish_norms();
    device->finish_norms();  // nothing is open
    for (size_t norm = 0; norm < open.size(); ++norm)
      EXPECT_EQ(download_as_double(*device, open[norm]), download_as_double(*device, at_once[norm])) << norm;
  }
}

TEST_P(BackendTest, RotateSwigluAndBias) {
  struct Heads {
    int64_t size, pairs;
  };
  for (const auto& [size, pairs] : {Heads{8, 4}, {8, 3}, {40, 16}}) {  // of the last two some channels pass through
    const RandomTensor x(type_, {19, 3, size}, 1, 8), y(type_, {19, 3, size}, 1, 8);
    const RandomTensor cosine(wide_, {50, pairs}, 2), sine(wide_, {50, pairs}, 3);
    std::vector<int64_t> position;
    for (int i = 0; i < 19; ++i) position.push_back((i * 17) % 50);
    for (const bool inverse : {false, true}) {
      reference_->rotate(x, Tensor::of(position, {19}), cosine, sine, inverse);
      fast_->rotate(y, Tensor::of(position, {19}), cosine, sine, inverse);
      EXPECT_LT(relative_distance(y, x), bound_);
    }
    const RandomTensor dx(type_, {19, 3, size}, 4, 8), sums(DType::kFloat64, {pairs}, 5),
        others(DType::kFloat64, {pairs}, 5);
    reference_->rotation_gradient(sums, x, dx, Tensor::of(position, {19}));
    fast_->rotation_gradient(others, x, dx, Tensor::of(position, {19}));
    EXPECT_LT(relative_distance(others, sums), bound_);
    position[3] = 50;
    const auto other = make(1);  // a device stays marked
    EXPECT_THROW(
        {
          other->rotate(y, Tensor::of(position, {19}), cosine, sine, false);
          other->synchronize();
        },
        InternalError);
  }
  for (const int64_t width : {1, 63, 512, 517}) {
    const int64_t gap = width % 8 == 0 ? 8 : 3;
    const RandomTensor gate(type_, {11, width}, 1, gap, 4.0), up(type_, {11, width}, 2, gap), dy(type_, {11, width}, 3);
    const RandomTensor y(type_, {11, width}, 4), z(type_, {11, width}, 5);
    reference_->swiglu_forward(y, gate, up);
    fast_->swiglu_forward(z, gate, up);
    EXPECT_LT(relative_distance(z, y), bound_);
    const RandomTensor dg(type_, {11, width}, 6), du(type_, {11, width}, 7);
    const RandomTensor eg(type_, {11, width}, 1, gap, 4.0), eu(type_, {11, width}, 2, gap);
    const RandomTensor again(type_, {11, width}, 10), reference_again(type_, {11, width}, 11);
    reference_->swiglu_backward(dg, du, reference_again, dy, gate, up);
    fast_->swiglu_backward(eg, eu, again, dy, eg, eu);  // in place, as the network does it
    EXPECT_EQ(values_of(again), values_of(z)) << "the forward pass's bits";
    EXPECT_EQ(values_of(reference_again), values_of(y));
    EXPECT_LT(relative_distance(eg, dg), bound_);
    EXPECT_LT(relative_distance(eu, du), bound_);
    const RandomTensor bias(type_, {width}, 8), b(wide_, {width}, 9), c(wide_, {width}, 9);
    reference_->bias_backward(b, dy);
    fast_->bias_backward(c, dy);
    EXPECT_LT(relative_distance(c, b), bound_);
    reference_->add_bias(y, bias);
    fast_->add_bias(z, bias);
    EXPECT_LT(relative_distance(z, y), bound_);
  }
}

TEST_P(BackendTest, CrossEntropy) {
  for (const int64_t columns : {1, 31, 1003, 4104}) {
    const int64_t rows = 9, first = 100, gap = columns % 8 == 0 ? 8 : 2;
    std::vector<int64_t> target{100, -1, 101, 100 + columns - 1, 99, 5000, 100, -1, 100};
    const RandomTensor weight(wide_, {rows}, 2);
    const RandomTensor logits(wide_, {rows, columns}, 1, gap, 5.0), again(wide_, {rows, columns}, 1, gap, 5.0);
    const RandomTensor m(wide_, {rows}, 3), n(wide_, {rows}, 4), s(wide_, {2, rows}, 5), t(wide_, {2, rows}, 6);
    const RandomTensor loss(wide_, {rows}, 7), other(wide_, {rows}, 8);
    const Tensor targets = Tensor::of(target, {rows});
    reference_->cross_entropy_maximum(m, logits);
    fast_->cross_entropy_maximum(n, again);
    ASSERT_EQ(relative_distance(n, m), 0);
    reference_->cross_entropy_sums(s, logits, m, targets, first);
    fast_->cross_entropy_sums(t, again, m, targets, first);
    EXPECT_LT(relative_distance(t, s), bound_);
    reference_->cross_entropy_finish(loss, {}, logits, m, s, targets, weight, first);
    fast_->cross_entropy_finish(other, {}, again, m, s, targets, weight, first);
    EXPECT_LT(relative_distance(other, loss), bound_);
    EXPECT_EQ(relative_distance(again, logits), 0) << "no gradient was asked for";
    // Of type T, over the logits.
    const int64_t ratio = static_cast<int64_t>(size_of(wide_) / size_of(type_));
    const auto over = [&](const RandomTensor& x) {
      return Tensor(x.tensor().raw(), type_, {rows, (columns + gap) * ratio}).slice(1, 0, columns);
    };
    reference_->cross_entropy_finish(loss, over(logits), logits, m, s, targets, weight, first);
    fast_->cross_entropy_finish(other, over(again), again, m, s, targets, weight, first);
    EXPECT_LT(relative_distance(other, loss), bound_);
    EXPECT_LT(relative_distance(over(again), over(logits)), bound_);
  }
}

TEST_P(BackendTest, NotANumberIsNeverLost) {
  const RandomTensor logits(wide_, {3, 70}, 1), maximum(wide_, {3}, 2);
  dispatch_floating(wide_, [&](auto zero) {
    using A = decltype(zero);
    logits.tensor().template data<A>()[70 + 64] = std::numeric_limits<A>::quiet_NaN();
    fast_->cross_entropy_maximum(maximum, logits);
    const A* m = maximum.tensor().template data<A>();
    EXPECT_TRUE(std::isfinite(m[0]) && std::isnan(m[1]) && std::isfinite(m[2]));
    reference_->cross_entropy_maximum(maximum, logits);
    EXPECT_TRUE(std::isfinite(m[0]) && std::isnan(m[1]) && std::isfinite(m[2]));
  });
  const RandomTensor gate(type_, {1, 300}, 3), y(type_, {1, 300}, 4);
  dispatch_floating(type_, [&](auto zero) {
    using T = decltype(zero);
    gate.tensor().template data<T>()[299] = T(std::numeric_limits<float>::quiet_NaN());
    fast_->swiglu_forward(y, gate, gate);
    EXPECT_TRUE(std::isnan(static_cast<double>(y.tensor().template data<T>()[299])));
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, BackendTest, ::testing::ValuesIn(kinds()), [](const auto& kind) {
  return std::string(name_of(kind.param.dtype)) + "_" + kind.param.device;
});

}  // namespace
}  // namespace carillon::testing
