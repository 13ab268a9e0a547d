// Embeddings: encode() pools the same rows that the loss is computed from, the four modes for long documents agree with
// batches made by hand, and every layout agrees with one rank.
#include "launch/inference/embedder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "parallel/transport/thread_communicator.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

constexpr int64_t kTrained = 10;
using Documents = std::vector<std::vector<int32_t>>;

ModelConfig model(const std::string& rope = "{}") {
  ModelConfig config = tiny_config();
  static_cast<ModelRope&>(config) = merge_model_rope(config, Json::parse(rope), "test");
  return config;
}

Documents documents() {
  Documents result;
  for (const int64_t length : {1, 7, 10, 11, 29, 40}) {
    result.emplace_back();
    for (int64_t i = 0; i < length; ++i) result.back().push_back(static_cast<int32_t>((i * i + 3 * length) % 131));
  }
  return result;
}

// Calls `use` on every rank with a scorer that has random weights.
void with_scorer(const ModelConfig& config, GridShape shape, const std::function<void(Scorer&)>& use) {
  run_ranks(shape.size(), [&](std::unique_ptr<Communicator> world) {
    const auto backend = make_backend({.device = "reference"});
    const int kv_replicas =
        static_cast<int>(shape.tensor > config.num_key_value_heads ? shape.tensor / config.num_key_value_heads : 1);
    ProcessGrid grid = make_process_grid(std::move(world), shape, kv_replicas);
    Scorer scorer(*backend, grid, config, DType::kFloat64, LayoutKind::kZigzag, 64);
    scorer.network().parameters().initialize(*backend, *grid.tp, config.initializer_range, 7);
    use(scorer);
  });
}

std::vector<std::vector<double>> embeddings(const ModelConfig& config, GridShape shape,
                                            const EmbeddingOptions& options) {
  std::vector<std::vector<double>> result;
  with_scorer(config, shape, [&](Scorer& scorer) {
    size_t next = 0;
    Embedder(scorer).embed(documents(), options, [&](size_t index, const std::vector<double>& embedding) {
      EXPECT_EQ(index, next++);
      result.push_back(embedding);
    });
  });
  return result;
}

std::vector<double> unit(std::vector<double> values) {
  double square = 0;
  for (const double value : values) square += value * value;
  for (double& value : values) value /= std::sqrt(square);
  return values;
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double bound, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], bound) << what << " " << i;
}

TEST(Embedder, PooledRowsAreWhatTheLossIsComputedFrom) {
  with_scorer(model(), {1, 1, 1}, [&](Scorer& scorer) {
    const std::vector<int32_t> document = documents()[4];
    const auto tokens = static_cast<int64_t>(document.size());
    TokenScores scores;
    std::vector<ScoreDocument> one(1);
    one[0].tokens = document;
    scorer.score(one, [&](size_t, const TokenScores& found) { scores = found; });
    HostBatch whole(1, scorer.network().layout().length());
    for (int64_t i = 0; i < tokens; ++i) {
      const auto row = static_cast<size_t>(i);
      whole.tokens[row] = document[row], whole.position[row] = i, whole.first[row] = 0, whole.reach[row] = tokens;
    }
    ShardedBatch sharded(scorer.network().layout(), 0, 1);
    Transformer& transformer = scorer.network().transformer();
    transformer.encode(sharded.shard(whole.view()));
    const Tensor head = scorer.network().parameters().head().weight;
    for (size_t row = 0; row + 1 < document.size(); ++row) {
      std::vector<double> weight(static_cast<size_t>(scorer.network().layout().local()));
      weight[row] = 1;
      const std::vector<double> h = transformer.pooled(weight);
      double sum = 0, target = 0;
      for (int64_t v = 0; v < head.size(0); ++v) {
        double logit = 0;
        for (size_t c = 0; c < h.size(); ++c)
          logit += h[c] * head.data<double>()[v * head.size(1) + static_cast<int64_t>(c)];
        sum += std::exp(logit);
        if (v == document[row + 1]) target = logit;
      }
      EXPECT_NEAR(std::log(sum) - target, scores.loss[row], 1e-10) << row;
    }
  });
}

TEST(Embedder, LongDocumentsAreTakenAsAsked) {
  const ModelConfig config = model(R"({"type": "dynamic", "factor": 2})");
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast})
    for (const LongPositions kind :
         {LongPositions::kConsecutive, LongPositions::kGrouped, LongPositions::kRecurrent, LongPositions::kChunks}) {
      const EmbeddingOptions options{pooling, kind, kTrained};
      const auto found = embeddings(config, {1, 1, 1}, options);
      const auto plain = embeddings(config, {1, 1, 1}, {pooling, LongPositions::kConsecutive, kTrained});
      for (size_t d = 0; d < found.size(); ++d) {
        const std::vector<int32_t> document = documents()[d];
        const auto tokens = static_cast<int64_t>(document.size());
        const std::string what =
            fmt::format("{} tokens, {} {}", tokens, static_cast<int>(kind), static_cast<int>(pooling));
        // Up to the trained length all modes are the same.
        if (tokens <= kTrained) expect_near(found[d], plain[d], 1e-13, what);
        // The expected value: each chunk, or the whole document with these positions, encoded alone.
        std::vector<double> expected;
        const int64_t group = (tokens + kTrained - 1) / kTrained;
        const int64_t chunk = kind == LongPositions::kChunks ? kTrained : tokens;
        for (int64_t begin = 0; begin < tokens; begin += chunk) {
          const int64_t end = std::min(tokens, begin + chunk);
          with_scorer(config, {1, 1, 1}, [&](Scorer& scorer) {
            scorer.prepare(end - begin, 1);
            HostBatch whole(1, scorer.network().layout().length());
            for (int64_t i = begin; i < end; ++i) {
              const auto row = static_cast<size_t>(i - begin);
              whole.tokens[row] = document[static_cast<size_t>(i)];
              whole.first[row] = 0;
              whole.position[row] = kind == LongPositions::kConsecutive ? i
                                    : kind == LongPositions::kGrouped   ? i / group
                                                                        : i % kTrained;
            }
            ShardedBatch sharded(scorer.network().layout(), 0, 1);
            scorer.network().transformer().encode(sharded.shard(whole.view()));
            std::vector<double> weight(static_cast<size_t>(scorer.network().layout().local()));
            for (int64_t i = 0; i < end - begin; ++i)
              weight[static_cast<size_t>(i)] =
                  pooling == Pooling::kMean ? 1.0 / static_cast<double>(end - begin) : (i + 1 == end - begin);
            const std::vector<double> sum = scorer.network().transformer().pooled(weight);
            expected.resize(sum.size());
            for (size_t i = 0; i < sum.size(); ++i) expected[i] += sum[i];
          });
        }
        expect_near(found[d], unit(expected), 1e-12, what);
      }
    }
}

TEST(Embedder, EveryLayoutEmbedsAlike) {
  // The rotation depends on the length of the encoded sequence, so with chunks on the length of each chunk.
  const ModelConfig config = model(R"({"type": "longrope", "factor": 4, "original_max_position_embeddings": 10,
      "short_factor": [1, 1.5, 2, 1], "long_factor": [1, 2, 5, 8], "mixed_windows": true})");
  for (const LongPositions kind : {LongPositions::kConsecutive, LongPositions::kChunks})
    for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
      const EmbeddingOptions options{pooling, kind, 0};
      const auto one = embeddings(config, {1, 1, 1}, options);
      ASSERT_EQ(one.size(), documents().size());
      for (const GridShape shape :
           {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 1, 2}, GridShape{2, 2, 1}, GridShape{1, 2, 2}}) {
        const auto many = embeddings(config, shape, options);
        ASSERT_EQ(many.size(), one.size());
        for (size_t d = 0; d < one.size(); ++d)
          expect_near(many[d], one[d], 1e-12,
                      fmt::format("dp {} cp {} tp {}", shape.data, shape.context, shape.tensor));
      }
    }
}

}  // namespace
}  // namespace carillon::testing
