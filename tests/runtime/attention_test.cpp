// Attention of a fast backend (see backend_test.cpp) against the reference: all kinds of masks, key blocks folded in
// any order, grouped heads.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "runtime/backend.h"
#include "runtime/cpu/kernels.h"
#include "tests/support/host_tensors.h"
#include "tests/support/random_tensor.h"

namespace carillon::testing {
namespace {

struct Case {
  int64_t batch, rows, keys, heads, kv_heads, width;
  int64_t window;    // 0: none
  int64_t document;  // length of documents; 0: one
  int64_t padding;   // rows at the end that attend to nothing
  int64_t gap = 3;   // elements between rows; a multiple of 8 lets CUDA's tensor-core kernels take bfloat16
};

struct Problem {
  const Case& c;
  DType type, wide = accumulate_type(type);
  RandomTensor q{type, {c.batch, c.rows, c.heads, c.width}, 1, c.gap};
  RandomTensor k{type, {c.batch, c.keys, c.kv_heads, c.width}, 2, 2 * c.gap};
  RandomTensor v{type, {c.batch, c.keys, c.kv_heads, c.width}, 3, 2 * c.gap};
  RandomTensor dout{type, {c.batch, c.rows, c.heads, c.width}, 4};
  std::vector<int64_t> query, key, first;

  Problem(const Case& problem, DType dtype)
      : c(problem), type(dtype), query(c.rows), key(c.keys), first(c.batch * c.rows) {
    // Queries are the last rows of the sequence, so there are more keys than queries.
    std::iota(key.begin(), key.end(), 0);
    std::iota(query.begin(), query.end(), std::max<int64_t>(c.keys - c.rows, 0));
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t i = 0; i < c.rows; ++i) {
        int64_t from = c.document > 0 ? query[i] / c.document * c.document : 0;
        if (c.window > 0) from = std::max(from, query[i] - c.window + 1 - b);
        if (i >= c.rows - c.padding) from = 1 << 20;
        first[b * c.rows + i] = from;
      }
  }
  struct Result {
    RandomTensor out, lse, dq, dk, dv;
  };
  // `blocks`: where the keys are cut; each block is folded in separately, the last one first.
  Result run(Backend& backend, const std::vector<int64_t>& blocks) {
    Result r{{type, {c.batch, c.rows, c.heads, c.width}, 5},
             {wide, {c.batch, c.heads, c.rows}, 6},
             {wide, {c.batch, c.rows, c.heads, c.width}, 7},
             {wide, {c.batch, c.keys, c.kv_heads, c.width}, 8},
             {wide, {c.batch, c.keys, c.kv_heads, c.width}, 9}};
    const RandomTensor accumulator(wide, {c.batch, c.rows, c.heads, c.width}, 10),
        maximum(wide, {c.batch, c.heads, c.rows}, 11), sum(wide, {c.batch, c.heads, c.rows}, 12),
        delta(wide, {c.batch, c.heads, c.rows}, 13);
    const AttentionState state{accumulator, maximum, sum};
    const double scale = 1 / std::sqrt(static_cast<double>(c.width));
    const auto mask = [&](int64_t begin, int64_t end) {
      return AttentionMask{Tensor::of(query, {c.rows}), Tensor::of(first, {c.batch, c.rows}),
                           Tensor::of(key, {c.keys}).slice(0, begin, end)};
    };
    backend.attention_begin(state);
    for (size_t i = blocks.size() - 1; i-- > 0;)
      backend.attention_forward(state, q, k.tensor().slice(1, blocks[i], blocks[i + 1]),
                                v.tensor().slice(1, blocks[i], blocks[i + 1]), mask(blocks[i], blocks[i + 1]), scale);
    backend.attention_finish(r.out, r.lse, state);
    backend.attention_delta(delta, dout, r.out);
    for (size_t i = 0; i + 1 < blocks.size(); ++i)
      backend.attention_backward(
          r.dq, r.dk.tensor().slice(1, blocks[i], blocks[i + 1]), r.dv.tensor().slice(1, blocks[i], blocks[i + 1]), q,
          k.tensor().slice(1, blocks[i], blocks[i + 1]), v.tensor().slice(1, blocks[i], blocks[i + 1]), dout, r.out,
          r.lse, delta, mask(blocks[i], blocks[i + 1]), scale);
    return r;
  }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {{1, 1, 1, 1, 1, 1, 0, 0, 0},
                                         {2, 37, 37, 4, 2, 8, 0, 0, 0},
                                         {1, 130, 130, 2, 1, 64, 0, 0, 0},
                                         {2, 100, 300, 4, 2, 20, 0, 0, 3},
                                         {1, 97, 97, 3, 3, 72, 9, 0, 0},
                                         {2, 200, 200, 2, 2, 16, 0, 17, 5},
                                         {1, 64, 700, 2, 1, 32, 100, 0, 0},
                                         {1, 5, 1000, 2, 2, 12, 0, 0, 5},
                                         {1, 900, 900, 2, 1, 16, 0, 250, 0},
                                         {1, 131, 131, 2, 1, 80, 0, 0, 0},
                                         {1, 77, 150, 2, 2, 96, 0, 40, 1},
                                         {1, 333, 333, 1, 1, 128, 64, 0, 0},
                                         {1, 61, 61, 1, 1, 33, 0, 7, 0},
                                         {2, 200, 200, 4, 1, 64, 0, 130, 3, 8},
                                         {1, 130, 290, 2, 2, 96, 70, 0, 0, 8},
                                         {1, 200, 200, 3, 1, 128, 0, 0, 0, 8},
                                         // A few rows: the CPU uses keys and values as they are stored.
                                         {1, 1, 700, 4, 2, 64, 0, 0, 0, 8},
                                         {2, 3, 1000, 6, 2, 40, 300, 0, 0},
                                         {1, 4, 600, 2, 1, 128, 0, 250, 1, 8},
                                         {3, 2, 300, 2, 2, 200, 0, 0, 0},
                                         {2, 4, 520, 3, 1, 33, 5, 0, 2},
                                         {1, 2, 300, 14, 2, 24, 0, 0, 0, 8}};
  return list;
}

class AttentionTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (const std::string why = why_skipped(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

// Leaves NaN in all working memory of the backend, up to this size: a later call must not read what it has not written.
void spoil_working_memory(Backend& backend, DType type) {
  const Case c{1, 128, 128, 1, 1, 128, 0, 0, 0};
  Problem problem(c, type);
  std::fill(problem.query.begin(), problem.query.end(), c.keys);  // sees all keys, since masked ones give 0, not NaN
  for (const RandomTensor* x : {&problem.q, &problem.k, &problem.v, &problem.dout}) backend.fill(*x, std::nan(""));
  problem.run(backend, {0, c.keys});
}

TEST_P(AttentionTest, EqualsTheReference) {
  const auto reference = make_backend({.device = "reference"});
  const auto fast = make_under_test(GetParam(), 2);
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16})
    for (const Case& c : cases()) {
      Problem problem(c, type);
      const auto expected = problem.run(*reference, {0, c.keys});
      spoil_working_memory(*fast, type);
      for (const std::vector<int64_t>& blocks :
           {std::vector<int64_t>{0, c.keys}, {0, c.keys / 3, c.keys / 2, c.keys}}) {
        const auto got = problem.run(*fast, blocks);
        SCOPED_TRACE(fmt::format("{} rows {} keys {} window {} document {}", name_of(type), c.rows, c.keys, c.window,
                                 c.document));
        const double bound = type == DType::kBFloat16 ? 4e-3 : 4 * bound_of(type);
        EXPECT_LT(relative_distance(got.out, expected.out), bound);
        EXPECT_LT(relative_distance(got.lse, expected.lse), bound);
        EXPECT_LT(relative_distance(got.dq, expected.dq), bound);
        EXPECT_LT(relative_distance(got.dk, expected.dk), bound);
        EXPECT_LT(relative_distance(got.dv, expected.dv), bound);
      }
    }
}

// Blocks whose calls begin and end as well, against the ops one by one: forward to the bit, from a state of NaN;
// backward with gradients in fused rows, turned back.
TEST_P(AttentionTest, CallsWithEndsEqualTheOpsOneByOne) {
  const auto fast = make_under_test(GetParam(), 2);
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16})
    for (const Case& c : {Case{2, 130, 130, 4, 2, 64, 0, 0, 0, 8}, {2, 37, 37, 4, 2, 8, 0, 17, 5}}) {
      SCOPED_TRACE(fmt::format("{} {}", name_of(type), c.width));
      Problem problem(c, type);
      const DType wide = accumulate_type(type);
      const double scale = 1 / std::sqrt(static_cast<double>(c.width)), nan = std::nan("");
      const auto statistic = [&](uint64_t seed) { return RandomTensor(wide, {c.batch, c.heads, c.rows}, seed); };
      const RandomTensor accumulator(wide, {c.batch, c.rows, c.heads, c.width}, 10), maximum = statistic(11),
                                                                                     sum = statistic(12);
      const AttentionState state{accumulator, maximum, sum};
      const auto mask = [&](int64_t begin, int64_t end) {
        return AttentionMask{Tensor::of(problem.query, {c.rows}), Tensor::of(problem.first, {c.batch, c.rows}),
                             Tensor::of(problem.key, {c.keys}).slice(0, begin, end)};
      };
      const auto spoil = [&] {
        for (const RandomTensor* x : {&accumulator, &maximum, &sum}) fast->fill(*x, nan);
      };
      const int64_t middle = c.keys / 2;
      const Problem::Result expected = problem.run(*fast, {0, c.keys}), two = problem.run(*fast, {0, middle, c.keys});
      const RandomTensor out(type, {c.batch, c.rows, c.heads, c.width}, 20), lse = statistic(21);
      spoil();
      fast->attention_forward(state, problem.q, problem.k, problem.v, mask(0, c.keys), scale, {true, {}, out, lse});
      EXPECT_EQ(values_of(out), values_of(expected.out));
      EXPECT_EQ(values_of(lse), values_of(expected.lse));
      spoil();
      const auto half = [](Tensor x, int64_t begin, int64_t end) { return x.slice(1, begin, end); };
      fast->attention_forward(state, problem.q, half(problem.k, middle, c.keys), half(problem.v, middle, c.keys),
                              mask(middle, c.keys), scale, {true, {}, {}, {}});
      fast->attention_forward(state, problem.q, half(problem.k, 0, middle), half(problem.v, 0, middle), mask(0, middle),
                              scale, {false, {}, out, lse});
      EXPECT_EQ(values_of(out), values_of(two.out));
      EXPECT_EQ(values_of(lse), values_of(two.lse));

      // Accumulators that hold nothing yet.
      const double bound = type == DType::kBFloat16 ? 4e-3 : 4 * bound_of(type);
      const RandomTensor delta = statistic(22), dq(wide, {c.batch, c.rows, c.heads, c.width}, 7, 0, 0.0),
                         dk(wide, {c.batch, c.keys, c.kv_heads, c.width}, 8, 0, 0.0),
                         dv(wide, {c.batch, c.keys, c.kv_heads, c.width}, 9, 0, 0.0);
      fast->attention_delta(delta, problem.dout, expected.out);
      fast->attention_backward(dq, dk, dv, problem.q, problem.k, problem.v, problem.dout, expected.out, expected.lse,
                               delta, mask(0, c.keys), scale);
      const RandomTensor formed = statistic(23), eq(wide, {c.batch, c.rows, c.heads, c.width}, 7),
                         ek(wide, {c.batch, c.keys, c.kv_heads, c.width}, 8),
                         ev(wide, {c.batch, c.keys, c.kv_heads, c.width}, 9);
      for (const RandomTensor* x : {&formed, &eq, &ek, &ev}) fast->fill(*x, nan);
      AttentionGradientEnds ends{true, true, true};
      fast->attention_backward(eq, ek, ev, problem.q, problem.k, problem.v, problem.dout, expected.out, expected.lse,
                               formed, mask(0, c.keys), scale, ends);
      EXPECT_LT(relative_distance(formed, delta), bound);
      EXPECT_LT(relative_distance(eq, dq), bound);
      EXPECT_LT(relative_distance(ek, dk), bound);
      EXPECT_LT(relative_distance(ev, dv), bound);

      const int64_t all = c.heads + 2 * c.kv_heads, turned = c.heads + c.kv_heads, pairs = c.width / 2;
      const RandomTensor fused(type, {c.batch * c.rows, all, c.width}, 24),
          plain(type, {c.batch * c.rows, all, c.width}, 25);
      const RandomTensor cosine(wide, {50, pairs}, 26), sine(wide, {50, pairs}, 27);
      std::vector<int64_t> place;
      for (int64_t i = 0; i < c.batch * c.rows; ++i) place.push_back(i * 17 % 50);
      const Tensor position = Tensor::of(place, {c.batch * c.rows});
      const auto part = [&](const RandomTensor& x, int64_t begin, int64_t count) {
        return x.tensor().slice(1, begin, begin + count).split_dim(0, c.batch);
      };
      for (const RandomTensor* x : {&formed, &eq, &ek, &ev}) fast->fill(*x, nan);
      for (const RandomTensor* to : {&plain, &fused}) {
        ends.result_dq = part(*to, 0, c.heads), ends.result_dk = part(*to, c.heads, c.kv_heads);
        ends.result_dv = part(*to, turned, c.kv_heads);
        if (to == &fused) ends.position = position, ends.cosine = cosine, ends.sine = sine;
        fast->attention_backward(eq, ek, ev, problem.q, problem.k, problem.v, problem.dout, expected.out, expected.lse,
                                 formed, mask(0, c.keys), scale, ends);
      }
      EXPECT_LT(relative_distance(part(plain, 0, c.heads), dq), bound);
      EXPECT_LT(relative_distance(part(plain, c.heads, c.kv_heads), dk), bound);
      EXPECT_LT(relative_distance(part(plain, turned, c.kv_heads), dv), bound);
      fast->rotate(plain.tensor().slice(1, 0, turned), position, cosine, sine, /*inverse=*/true);
      EXPECT_EQ(values_of(fused), values_of(plain)) << "the bits of rotate()";
    }
}

// One NaN among the queries: its row must show it, the rows of others must not.
TEST_P(AttentionTest, NotANumberIsNotLost) {
  const auto fast = make_under_test(GetParam(), 2);
  const Case c{1, 100, 100, 2, 1, 64, 0, 0, 0};
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    Problem problem(c, type);
    fast->fill(problem.q.tensor().slice(1, 70, 71).slice(2, 0, 1).slice(3, 5, 6), std::nan(""));
    const auto got = problem.run(*fast, {0, c.keys});
    const std::vector<double> out = values_of(got.out), dv = values_of(got.dv);
    for (int64_t i = 0; i < c.rows; ++i)
      for (int64_t h = 0; h < c.heads; ++h)
        EXPECT_EQ(std::isnan(out[static_cast<size_t>((i * c.heads + h) * c.width)]), i == 70 && h == 0) << i << h;
    EXPECT_TRUE(std::isnan(dv[0])) << "every key up to it gets a gradient from it";
    EXPECT_FALSE(std::isnan(dv[static_cast<size_t>(99 * c.width)]));
  }
}

// Keys that no query reaches keep their gradients bit for bit: values left in working memory by another call are not
// added.
TEST_P(AttentionTest, KeysBehindEveryQueryGetNothing) {
  const auto fast = make_under_test(GetParam(), 1);
  const Case c{1, 5, 100, 1, 1, 32, 0, 0, 0};
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    spoil_working_memory(*fast, type);
    Problem problem(c, type);
    std::iota(problem.query.begin(), problem.query.end(), 0);  // the first five of a hundred
    const auto got = problem.run(*fast, {0, c.keys});
    const DType wide = accumulate_type(type);
    const RandomTensor dk(wide, {1, c.keys, 1, c.width}, 8), dv(wide, {1, c.keys, 1, c.width}, 9);
    EXPECT_EQ(values_of(got.dk.tensor().slice(1, 5, c.keys)), values_of(dk.tensor().slice(1, 5, c.keys)));
    EXPECT_EQ(values_of(got.dv.tensor().slice(1, 5, c.keys)), values_of(dv.tensor().slice(1, 5, c.keys)));
    EXPECT_NE(values_of(got.dv.tensor().slice(1, 4, 5)), values_of(dv.tensor().slice(1, 4, 5)));
  }
}

TEST_P(AttentionTest, NeitherThreadsNorRepetitionChangeABit) {
  const auto one = make_under_test(GetParam(), 1);
  const auto three = make_under_test(GetParam(), 3);
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16})
    for (const Case& c : {Case{2, 150, 150, 4, 2, 16, 0, 0, 0}, Case{1, 900, 900, 2, 1, 16, 0, 0, 0},
                          Case{2, 2, 2000, 4, 2, 64, 0, 0, 0}}) {
      Problem problem(c, type);
      const auto expected = problem.run(*one, {0, c.keys});
      for (Backend* backend : {one.get(), three.get(), three.get()}) {
        const auto got = problem.run(*backend, {0, c.keys});
        for (const auto& [a, b] : {std::pair(&expected.out, &got.out),
                                   {&expected.dq, &got.dq},
                                   {&expected.dk, &got.dk},
                                   {&expected.dv, &got.dv}})
          EXPECT_EQ(values_of(*a), values_of(*b)) << name_of(type);
      }
    }
}

// More queries than a CPU's backward pass takes at once (192 for such wide heads), with an uneven last piece; some keys
// are seen by all pieces, others only by some.
TEST_P(AttentionTest, LongSequencesGoInPieces) {
  if (is_cuda(GetParam())) GTEST_SKIP() << "takes no pieces";
  const auto reference = make_backend({.device = "reference"});
  const auto one = make_under_test(GetParam(), 1), three = make_under_test(GetParam(), 3);
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kBFloat16})
    for (const Case& c : {Case{1, 200, 200, 1, 1, 2048, 0, 0, 0}, {1, 390, 400, 1, 1, 2048, 30, 250, 7}}) {
      ASSERT_EQ(cpu::backward_queries_at_once(c.width, 2, sizeof(float)), cpu::kBackwardQueries);
      SCOPED_TRACE(name_of(type));
      Problem problem(c, type);
      const auto expected = problem.run(*reference, {0, c.keys});
      spoil_working_memory(*three, type);
      const auto got = problem.run(*three, {0, c.keys}), alone = problem.run(*one, {0, c.keys});
      const double bound = type == DType::kBFloat16 ? 4e-3 : 4 * bound_of(type);
      for (const auto& [right, got_three, got_one] : {std::tuple(&expected.dq, &got.dq, &alone.dq),
                                                      {&expected.dk, &got.dk, &alone.dk},
                                                      {&expected.dv, &got.dv, &alone.dv}}) {
        EXPECT_LT(relative_distance(*got_three, *right), bound);
        EXPECT_EQ(values_of(*got_three), values_of(*got_one));
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttentionTest, ::testing::ValuesIn(kinds_under_test()),
                         [](const auto& set) { return set.param; });

TEST(InstructionSet, OneTheProcessorLacksIsRefused) {
  try {
    make_backend({.device = "cpu", .instruction_set = "avx1024"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("baseline"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace carillon::testing
