// Exchanges over tensor ranks in chunks, concurrent with products: the same losses and gradients as on one rank, in any
// order of arrival, and a missing wait is noticed. Gradients of weights and norms are summed in another order.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "model/families/family.h"
#include "parallel/injected_fault.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

// Norms on q and k; or biases, and one key/value head for both ranks.
ModelConfig with_qk_norm() {
  return parse_model_config(R"({"model_type": "qwen3", "vocab_size": 131, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "initializer_range": 0.3,
    "attention_bias": false, "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0})",
                            "test");
}
ModelConfig with_biases() {
  return parse_model_config(R"({"model_type": "llama", "vocab_size": 17, "hidden_size": 24, "intermediate_size": 42,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "attention_bias": true, "mlp_bias": true,
    "initializer_range": 0.3, "tie_word_embeddings": false, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0})",
                            "test");
}

// Two packed sequences of 37 tokens: 38 rows on two tensor ranks, 40 with two context ranks, so shards of 38 and 20
// rows per rank and chunks of unequal size.
TinyRun base_run(const ModelConfig& config) {
  TinyRun run;
  run.config = config;
  run.zero = 0;
  run.steps = 2;
  run.sequences = tiny_sequences(2, 37, config.vocab_size, {20, 1, 16});
  return run;
}

// Relative Frobenius distance of the worst tensor.
double worst_difference(const TinyResult& expected, const TinyResult& got) {
  double worst = 0;
  for (const auto& [name, values] : expected.gradients) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(values[i] - got.gradients.at(name)[i], 2);
      size += std::pow(values[i], 2);
    }
    const double relative = std::sqrt(difference / std::max(size, 1e-300));
    worst = std::isnan(relative) ? INFINITY : std::max(worst, relative);
  }
  return worst;
}

bool equal(const TinyResult& expected, const TinyResult& got) {
  bool same =
      std::abs(got.loss[0] - expected.loss[0]) <= 1e-12 * expected.loss[0] && worst_difference(expected, got) < 1e-10;
  for (size_t step = 0; step < expected.loss.size(); ++step)
    same = same && std::abs(got.loss[step] - expected.loss[step]) <= 1e-9 * expected.loss[step] &&
           std::abs(got.gradient_norm[step] - expected.gradient_norm[step]) <= 1e-8 * expected.gradient_norm[step];
  for (size_t s = 0; s < expected.token_loss.size(); ++s)
    for (size_t i = 0; i < expected.token_loss[s].size(); ++i)
      same = same && std::abs(got.token_loss[s][i] - expected.token_loss[s][i]) < 1e-10;
  return same;
}

TEST(TensorChunks, EveryChunkingGivesOneRanksNumbers) {
  for (const ModelConfig& config : {with_qk_norm(), with_biases()}) {
    TinyRun run = base_run(config);
    const TinyResult one = run_tiny(run);
    for (const GridShape grid : {GridShape{1, 1, 2}, GridShape{1, 2, 2}, GridShape{1, 1, 4}})
      for (const int64_t chunks : {1, 2, 3, 1000})
        for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull})
          for (const int64_t tile : {0, 7, 16}) {
            if (tile > 0 && recompute == Recompute::kNone) continue;
            run.grid = grid;
            run.tensor_chunks = chunks;
            run.recompute = recompute;
            run.mlp_tile = tile;
            EXPECT_TRUE(equal(one, run_tiny(run)))
                << fmt::format("{} cp {} tp {} chunks {} recompute {} tile {}", config.family->model_type, grid.context,
                               grid.tensor, chunks, static_cast<int>(recompute), tile);
          }
  }
}

TEST(TensorChunks, RecomputeAndOffloadChangeNoBit) {
  TinyRun run = base_run(with_qk_norm());
  run.grid = {1, 2, 2};
  run.tensor_chunks = 3;
  run.recompute = Recompute::kNone;
  const TinyResult none = run_tiny(run);
  for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull})
    for (const Offload offload : {Offload::kNone, Offload::kCheckpoints}) {
      run.recompute = recompute;
      run.offload = offload;
      const TinyResult other = run_tiny(run);
      EXPECT_EQ(other.loss, none.loss);
      EXPECT_EQ(other.gradients, none.gradients);
      EXPECT_EQ(other.weights, none.weights);
    }
}

// An exchange arrives only when it is waited for; until then its target is NaN. If `waits` is false, it never arrives.
class LateGroup : public Communicator {
 public:
  LateGroup(std::unique_ptr<Communicator> inner, bool waits) : inner_(std::move(inner)), waits_(waits) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  const std::string& name() const override { return inner_->name(); }
  void all_reduce(Tensor x, Reduction reduction) override { inner_->all_reduce(x, reduction); }
  void all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override { inner_->all_gather(y, x, counts); }
  void reduce_scatter(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    inner_->reduce_scatter(y, x, counts);
  }
  void broadcast(Tensor x, int root) override { inner_->broadcast(x, root); }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Transfer> start_exchange(Tensor send, int to, Tensor receive, int from, Kind kind) override {
    return inner_->start_exchange(send, to, receive, from, kind);
  }
  std::unique_ptr<Communicator> split(int color, int key, std::string name) override {
    return inner_->split(color, key, std::move(name));
  }

  std::unique_ptr<Transfer> start_all_gather(Tensor y, Tensor x, const std::vector<int64_t>& counts) override {
    auto late = std::make_unique<Late>(y, x, waits_);
    inner_->all_gather(late->result(), x, counts);
    return late;
  }
  std::unique_ptr<Transfer> start_reduce_scatters(const std::vector<ReduceScatter>& parts) override {
    EXPECT_EQ(parts.size(), 1u);
    auto late = std::make_unique<Late>(parts[0].y, parts[0].x, waits_);
    inner_->reduce_scatter(late->result(), parts[0].x, parts[0].counts);
    return late;
  }

 private:
  // Only for float64.
  class Late : public Transfer {
   public:
    Late(Tensor y, Tensor x, bool waits)
        : y_(y),
          x_(x),
          given_(x.span<double>().begin(), x.span<double>().end()),
          result_(y.span<double>().size()),
          waits_(waits) {
      for (double& value : y.span<double>()) value = std::numeric_limits<double>::quiet_NaN();
    }
    ~Late() override { EXPECT_TRUE(waited_) << "an exchange nobody waited for"; }
    Tensor result() { return Tensor(result_.data(), DType::kFloat64, y_.shape()); }
    void wait() override {
      EXPECT_FALSE(waited_);
      waited_ = true;
      EXPECT_EQ(std::memcmp(x_.raw(), given_.data(), x_.bytes()), 0) << "what was given was written too early";
      for (const double value : y_.span<double>()) EXPECT_TRUE(std::isnan(value)) << "the target was written";
      if (waits_) std::memcpy(y_.raw(), result_.data(), y_.bytes());
    }

   private:
    Tensor y_, x_;
    std::vector<double> given_, result_;
    bool waits_, waited_ = false;
  };
  std::unique_ptr<Communicator> inner_;
  bool waits_;
};

TEST(TensorChunks, MayArriveAsLateAsTheyAreWaitedFor) {
  for (const auto& [recompute, tile] :
       {std::pair<Recompute, int64_t>{Recompute::kNone, 0}, {Recompute::kSelective, 0}, {Recompute::kFull, 7}})
    for (const GridShape grid : {GridShape{1, 1, 2}, GridShape{1, 2, 2}}) {
      TinyRun run = base_run(with_biases());
      const TinyResult one = run_tiny(run);
      run.grid = grid;
      run.recompute = recompute;
      run.mlp_tile = tile;
      run.tensor_chunks = 3;
      run.tensor_group = [](std::unique_ptr<Communicator> group) {
        return std::make_unique<LateGroup>(std::move(group), true);
      };
      EXPECT_TRUE(equal(one, run_tiny(run))) << fmt::format("cp {} tile {}", grid.context, tile);
    }
}

// Chunks that never arrive are noticed.
TEST(TensorChunks, ThatNeverArriveAreNoticed) {
  TinyRun run = base_run(with_qk_norm());
  run.steps = 1;
  const TinyResult one = run_tiny(run);
  run.grid = {1, 1, 2};
  run.tensor_chunks = 2;
  run.tensor_group = [](std::unique_ptr<Communicator> group) {
    return std::make_unique<LateGroup>(std::move(group), false);
  };
  EXPECT_FALSE(equal(one, run_tiny(run)));
}

// On emulated CUDA streams, which run in any order that the events allow. CTest's model_tensor_chunks_cuda_… set the
// library and the order.
class TensorChunksOnCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  }
  static TinyRun base() {
    TinyRun run = base_run(with_qk_norm());
    run.sequences = tiny_sequences(1, 37, 131, {20, 1, 16});
    return run;
  }
};

TEST_F(TensorChunksOnCuda, GiveOneRanksNumbers) {
  TinyRun run = base();
  const TinyResult one = run_tiny(run);
  run.device = "cuda";
  for (const auto& [grid, chunks, recompute, tile] : {std::tuple(GridShape{1, 1, 2}, 1, Recompute::kNone, 0),
                                                      {GridShape{1, 1, 2}, 2, Recompute::kSelective, 0},
                                                      {GridShape{1, 1, 2}, 3, Recompute::kFull, 7},
                                                      {GridShape{1, 2, 2}, 3, Recompute::kSelective, 0}}) {
    run.grid = grid;
    run.tensor_chunks = chunks;
    run.recompute = recompute;
    run.mlp_tile = tile;
    EXPECT_TRUE(equal(one, run_tiny(run))) << fmt::format("cp {} chunks {} tile {}", grid.context, chunks, tile);
  }
}

// A negative control: the queue does not wait for a chunk before its product.
TEST_F(TensorChunksOnCuda, AWaitLeftOutIsNoticed) {
  TinyRun run = base();
  const TinyResult one = run_tiny(run);
  run.device = "cuda";
  run.grid = {1, 1, 2};
  run.steps = 1;
  const ScopedFault injected(InjectedFault::kCollectiveNotAwaited);
  for (const int64_t chunks : {1, 3}) {
    run.tensor_chunks = chunks;
    const bool noticed = !equal(one, run_tiny(run));
    const char* options = std::getenv("CARILLON_EMULATION");
    fmt::print("{} chunks {}: {}\n", options == nullptr ? "" : options, chunks, noticed ? "noticed" : "missed");
    EXPECT_TRUE(noticed);
  }
}

}  // namespace
}  // namespace carillon::testing
