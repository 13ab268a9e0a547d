// The loss over a vocabulary divided over tp, against the formula computed here (A7, A12).
#include "parallel/tensor/vocabulary_parallel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <mutex>

#include "parallel/shard.h"
#include "parallel/transport/thread_communicator.h"
#include "runtime/forwarding_backend.h"
#include "runtime/rng.h"

namespace carillon::testing {
namespace {

struct Case {
  int64_t rows, channels, vocabulary;
  int tp;
  int64_t chunk;
  bool accumulate = true;
  int64_t shard_chunks = 1;  // as in row_shards.h
};

struct Result {
  std::vector<double> loss, dx, dweight;
};

struct Inputs {
  std::vector<double> x, weight, target_weight;
  std::vector<int64_t> target;
  explicit Inputs(const Case& c) {
    for (int64_t i = 0; i < c.rows * c.channels; ++i) x.push_back(random_normal(1, 1, i));
    for (int64_t i = 0; i < c.vocabulary * c.channels; ++i) weight.push_back(random_normal(1, 2, i));
    for (int64_t n = 0; n < c.rows; ++n) {
      target.push_back(n % 3 == 1 ? -1 : static_cast<int64_t>(random_below(c.vocabulary, 1, 3, n)));
      target_weight.push_back(n % 3 == 1 ? 0 : n % 4 == 0 ? 0.0 : 0.5 + 0.25 * static_cast<double>(n % 5));
    }
  }
};

Result written_out(const Case& c, const Inputs& in) {
  Result r{std::vector<double>(c.rows), std::vector<double>(in.x.size()), std::vector<double>(in.weight.size())};
  for (int64_t n = 0; n < c.rows; ++n) {
    if (in.target[n] < 0) continue;
    std::vector<double> p(c.vocabulary);
    double sum = 0;
    for (int64_t t = 0; t < c.vocabulary; ++t) {
      for (int64_t e = 0; e < c.channels; ++e) p[t] += in.x[n * c.channels + e] * in.weight[t * c.channels + e];
      sum += std::exp(p[t]);
    }
    r.loss[n] = std::log(sum) - p[in.target[n]];
    for (int64_t t = 0; t < c.vocabulary; ++t) {
      const double slope = in.target_weight[n] * (std::exp(p[t]) / sum - (t == in.target[n]));
      for (int64_t e = 0; e < c.channels; ++e) {
        r.dx[n * c.channels + e] += slope * in.weight[t * c.channels + e];
        r.dweight[t * c.channels + e] += slope * in.x[n * c.channels + e];
      }
    }
  }
  return r;
}

class CountsTransfers : public ForwardingBackend {
 public:
  CountsTransfers() : ForwardingBackend(make_backend({.device = "cpu", .threads = 1})) {}
  void upload(Tensor device, Tensor host) override {
    ++transfers;
    ForwardingBackend::upload(device, host);
  }
  void download(Tensor host, Tensor device) override {
    ++transfers;
    ForwardingBackend::download(host, device);
  }
  int transfers = 0;

 protected:
  void around(OpCall&, const std::function<void()>& run) override { run(); }
};

Result split(const Case& c, const Inputs& in) {
  Result r{{}, std::vector<double>(in.x.size()), std::vector<double>(in.weight.size())};
  std::mutex mutex;
  run_ranks(c.tp, [&](std::unique_ptr<Communicator> tp) {
    const auto backend = std::make_unique<CountsTransfers>();
    const Range part = share_of(c.vocabulary, c.tp, tp->rank());
    const RowShards shards(c.rows, c.tp, c.shard_chunks);
    const auto make = [&](Arena& arena) {
      return VocabularyLoss(*backend, *tp, shards, c.channels, part.size(), part.begin, c.chunk, DType::kFloat64,
                            arena);
    };
    Arena measuring;
    make(measuring).allocate_work(measuring);
    Arena arena(backend->allocate(measuring.peak()));
    VocabularyLoss loss = make(arena);
    loss.allocate_work(arena);
    const int64_t shard = shards.shard_rows();
    std::vector<double> x;
    for (int64_t row = 0; row < shard; ++row) {
      const auto begin = in.x.begin() + shards.row(tp->rank(), row) * c.channels;
      x.insert(x.end(), begin, begin + c.channels);
    }
    std::vector<double> weight(in.weight.begin() + part.begin * c.channels, in.weight.begin() + part.end * c.channels);
    std::vector<double> losses(c.rows), dx(x.size()), target_weight = in.target_weight;
    std::vector<int64_t> target = in.target;
    // If the gradient is overwritten, its old content must not matter.
    std::vector<double> dweight(weight.size(), c.accumulate ? 0.0 : std::numeric_limits<double>::quiet_NaN());
    loss.set_targets(Tensor::of(target, {c.rows}), Tensor::of(target_weight, {c.rows}));
    backend->transfers = 0;
    loss.run(Tensor::of(losses, {c.rows}), Tensor::of(dx, {shard, c.channels}),
             Tensor::of(dweight, {part.size(), c.channels}), Tensor::of(x, {shard, c.channels}),
             Tensor::of(weight, {part.size(), c.channels}), c.accumulate);
    EXPECT_EQ(backend->transfers, 0) << "a run neither reads nor writes host memory, which would wait for the device";
    const std::lock_guard lock(mutex);
    if (r.loss.empty()) r.loss = losses;
    EXPECT_EQ(r.loss, losses) << "the loss is the same on every tp rank";
    for (int64_t row = 0; row < shard; ++row)
      std::copy_n(dx.begin() + row * c.channels, c.channels, r.dx.begin() + shards.row(tp->rank(), row) * c.channels);
    std::copy(dweight.begin(), dweight.end(), r.dweight.begin() + part.begin * c.channels);
  });
  return r;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST(VocabularyLoss, EqualsTheFormulaForEverySplitAndChunk) {
  for (const int64_t vocabulary : {17, 127, 128, 1123})
    for (const int tp : {1, 2, 4})
      for (const int64_t chunk : {1, 7, 47, 1000}) {
        const Case c{64, 12, vocabulary, tp, chunk};
        const Inputs in(c);
        const Result expected = written_out(c, in), got = split(c, in);
        SCOPED_TRACE(fmt::format("V {} tp {} chunk {}", vocabulary, tp, chunk));
        EXPECT_LT(largest_difference(got.loss, expected.loss), 1e-12);
        EXPECT_LT(largest_difference(got.dx, expected.dx), 1e-11);
        EXPECT_LT(largest_difference(got.dweight, expected.dweight), 1e-11);
      }
}

// A rank's rows are pieces of several chunks, of equal size or not.
TEST(VocabularyLoss, KnowsWhichRowsAreARanks) {
  for (const int tp : {2, 4})
    for (const int64_t shard_chunks : {2, 3, 16})
      for (const int64_t chunk : {7, 1000}) {
        const Case c{64, 12, 127, tp, chunk, true, shard_chunks};
        const Inputs in(c);
        const Result expected = written_out(c, in), got = split(c, in);
        SCOPED_TRACE(fmt::format("tp {} chunk {} shard chunks {}", tp, chunk, shard_chunks));
        EXPECT_LT(largest_difference(got.loss, expected.loss), 1e-12);
        EXPECT_LT(largest_difference(got.dx, expected.dx), 1e-11);
        EXPECT_LT(largest_difference(got.dweight, expected.dweight), 1e-11);
      }
}

TEST(VocabularyLoss, OverwritesTheWeightsGradientEvenWithoutTargets) {
  for (const int tp : {1, 2})
    for (const bool targets : {true, false}) {
      Case c{64, 12, 17, tp, 7};
      c.accumulate = false;
      Inputs in(c);
      if (!targets) std::fill(in.target.begin(), in.target.end(), -1);
      const Result expected = written_out(c, in), got = split(c, in);
      for (const double value : got.dweight) EXPECT_TRUE(std::isfinite(value));
      EXPECT_LT(largest_difference(got.dweight, expected.dweight), 1e-11);
    }
}

TEST(VocabularyLoss, MemoryIsBoundedByTheChunk) {
  const auto backend = make_backend({.device = "reference"});
  const auto solo = solo_communicator("tp");
  const auto bytes = [&](int64_t rows, int64_t chunk) {
    Arena measuring;
    VocabularyLoss(*backend, *solo, RowShards(rows, 1, 1), 64, 50000, 0, chunk, DType::kFloat32, measuring)
        .allocate_work(measuring);
    return measuring.peak();
  };
  EXPECT_LT(bytes(100000, 16), 100000u * 64 + 16u * 50000 * 4 * 2);
  EXPECT_GT(bytes(100000, 160), 160u * 50000 * 4);
}

}  // namespace
}  // namespace carillon::testing
