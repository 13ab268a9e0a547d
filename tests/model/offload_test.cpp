// Memory-saving options that must not change results: activations and optimizer state in host memory, bit for bit (A13
// of the project's parallelism reference), and the MLP in tiles of rows, whose weight gradients are summed in another
// order.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "parallel/injected_fault.h"
#include "runtime/reference/reference_backend.h"
#include "tests/support/host_tensors.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

// Copies as late as the contract allows: nothing arrives before wait(), and until then the target holds NaN. Code that
// reads a target too early, or overwrites a source too early, gets other numbers.
class LateCopies : public ReferenceBackend {
 public:
  bool unified() const override { return false; }
  std::unique_ptr<Copy> start_upload(Tensor device, Tensor host) override {
    return std::make_unique<Late>(*this, device, host);
  }
  std::unique_ptr<Copy> start_download(Tensor host, Tensor device) override {
    return std::make_unique<Late>(*this, host, device);
  }

 private:
  class Late : public Copy {
   public:
    Late(ReferenceBackend& backend, Tensor to, Tensor from) : backend_(backend), to_(to), from_(from) {
      backend_.fill(to_, std::numeric_limits<double>::quiet_NaN());
    }
    ~Late() override { EXPECT_TRUE(waited_) << "a copy nobody waited for"; }
    void wait() override {
      EXPECT_FALSE(waited_);
      waited_ = true;
      backend_.copy(to_, from_);
    }

   private:
    ReferenceBackend& backend_;
    Tensor to_, from_;
    bool waited_ = false;
  };
};

std::unique_ptr<Backend> late_copies() { return std::make_unique<LateCopies>(); }

// Five layers: three travel, two stay.
TinyRun base_run(int64_t layers = 5) {
  TinyRun run;
  run.config = tiny_config();
  set_depth(run.config, layers);
  run.zero = 0;
  run.steps = 2;
  run.accumulation = 2;
  run.sequences = tiny_sequences(4, 37, 131, {20, 1, 16});
  return run;
}

void expect_same_bits(const TinyResult& a, const TinyResult& b, const std::string& what) {
  EXPECT_EQ(a.loss, b.loss) << what;
  EXPECT_EQ(a.gradient_norm, b.gradient_norm) << what;
  EXPECT_EQ(a.gradients, b.gradients) << what;
  EXPECT_EQ(a.weights, b.weights) << what;
  EXPECT_EQ(a.state, b.state) << what;
  EXPECT_TRUE(std::isfinite(a.loss.back())) << what;
}

TEST(Offload, ActivationsInHostMemoryChangeNoBit) {
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 2}, GridShape{2, 2, 1}})
    for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
      TinyRun run = base_run();
      run.grid = grid;
      run.recompute = recompute;
      const TinyResult plain = run_tiny(run);
      run.offload = Offload::kCheckpoints;
      expect_same_bits(run_tiny(run), plain, "copies over at once");
      run.backend = late_copies;
      expect_same_bits(run_tiny(run), plain, "copies as late as allowed");
    }
  // Also with the CPU's kernels, in the usual type of training.
  TinyRun run = base_run();
  run.device = "cpu";
  run.compute = DType::kBFloat16;
  const TinyResult plain = run_tiny(run);
  run.offload = Offload::kAll;
  expect_same_bits(run_tiny(run), plain, "cpu");
}

TEST(Offload, FewLayersNeverTravel) {
  for (const int64_t layers : {1, 2, 3}) {
    TinyRun run = base_run(layers);
    run.backend = late_copies;
    const TinyResult plain = run_tiny(run);
    EXPECT_EQ(plain.host_bytes, 0u);
    run.offload = Offload::kCheckpoints;
    const TinyResult offloaded = run_tiny(run);
    expect_same_bits(offloaded, plain, std::to_string(layers));
    EXPECT_EQ(offloaded.host_bytes > 0, layers > 2);
  }
}

TEST(Offload, TakesTwoLayersOfDeviceMemory) {
  // Sizes are multiples of the arena's alignment: 2 sequences of 64 tokens, all in float64.
  TinyRun run = base_run(9);
  run.sequences = tiny_sequences(4, 64, 131);
  const size_t rows = 2 * 64, input = rows * 24 * 8, attention = rows * 32 * 8, lse = rows * 4 * 8;
  for (const auto& [recompute, kept] :
       {std::pair(Recompute::kFull, input), {Recompute::kSelective, input + attention + lse}}) {
    run.recompute = recompute;
    run.offload = Offload::kNone;
    const TinyResult plain = run_tiny(run);
    run.offload = Offload::kCheckpoints;
    const TinyResult offloaded = run_tiny(run);
    EXPECT_EQ(plain.device_bytes - offloaded.device_bytes, 7 * kept);
    EXPECT_EQ(offloaded.host_bytes, 7 * kept);
  }
}

TEST(Offload, OptimizerInHostMemoryChangesNoBit) {
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 2}, GridShape{3, 1, 1}})
    for (const int zero : {0, 1, 2})
      for (const DType compute : {DType::kFloat64, DType::kBFloat16})
        // Chunks of a few elements, chunks that end inside rows, and one chunk per parameter.
        for (const int64_t chunk : {int64_t{7}, int64_t{1000}, int64_t{4} << 20}) {
          TinyRun run = base_run(2);
          run.steps = 3;
          run.sequences = tiny_sequences(6, 21, 131);
          run.accumulation = 1;
          run.grid = grid;
          run.zero = zero;
          run.compute = compute;
          const TinyResult plain = run_tiny(run);
          run.offload = Offload::kOptimizer;
          run.offload_chunk = chunk;
          run.backend = late_copies;
          const TinyResult offloaded = run_tiny(run);
          expect_same_bits(
              offloaded, plain,
              fmt::format("dp {} cp {} tp {} zero {} chunk {}", grid.data, grid.context, grid.tensor, zero, chunk));
          EXPECT_GT(offloaded.host_bytes, 0u);
        }
}

// The same on emulated CUDA streams, which run in any order that the events allow. CTest's model_offload_cuda sets the
// library and the order.
class OffloadOnCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("CARILLON_CUDA_LIBRARY") == nullptr) GTEST_SKIP() << "CARILLON_CUDA_LIBRARY is not set";
  }
  static TinyRun base() {
    TinyRun run = base_run();
    run.device = "cuda";
    run.sequences = tiny_sequences(4, 21, 131, {12, 9});
    run.offload_chunk = 1000;
    return run;
  }
};

TEST_F(OffloadOnCuda, ChangesNoBit) {
  for (const auto& [grid, recompute, compute] :
       {std::tuple(GridShape{1, 1, 1}, Recompute::kSelective, DType::kFloat64),
        std::tuple(GridShape{1, 1, 1}, Recompute::kFull, DType::kBFloat16),
        std::tuple(GridShape{1, 2, 1}, Recompute::kSelective, DType::kBFloat16),
        std::tuple(GridShape{1, 1, 2}, Recompute::kFull, DType::kFloat64)}) {
    if (!enough_devices(grid.size())) continue;
    TinyRun run = base();
    run.grid = grid;
    run.recompute = recompute;
    run.compute = compute;
    run.zero = grid.size() > 1 ? 1 : 0;
    const TinyResult plain = run_tiny(run);
    EXPECT_EQ(plain.host_bytes, 0u);
    for (const Offload offload : {Offload::kCheckpoints, Offload::kOptimizer, Offload::kAll}) {
      run.offload = offload;
      const TinyResult offloaded = run_tiny(run);
      expect_same_bits(offloaded, plain, fmt::format("cp {} tp {} {}", grid.context, grid.tensor, name_of(compute)));
      EXPECT_GT(offloaded.host_bytes, 0u);
    }
  }
}

// A negative control: the queue does not wait for copies. This must be noticed if streams run only work that is waited
// for (seed 1). In other random orders a copy may happen to run early enough (the test prints which); in the order of
// the calls it always does (tests/cuda_emulation/README.md).
TEST_F(OffloadOnCuda, AWaitLeftOutIsNoticed) {
  const char* options = std::getenv("CARILLON_EMULATION");
  const std::string mode = options == nullptr ? "" : options;
  TinyRun run = base();
  const TinyResult plain = run_tiny(run);
  const ScopedFault injected(InjectedFault::kCopyNotAwaited);
  for (const Offload offload : {Offload::kCheckpoints, Offload::kOptimizer}) {
    run.offload = offload;
    const TinyResult got = run_tiny(run);
    const bool noticed = got.loss != plain.loss || got.gradients != plain.gradients || got.weights != plain.weights;
    fmt::print("{} {}: {}\n", mode, offload == Offload::kOptimizer ? "optimizer" : "checkpoints",
               noticed ? "noticed" : "missed");
    if (mode == "streams=adversarial:1") {
      EXPECT_TRUE(noticed);
    }
  }
}

// Relative Frobenius distance of the worst tensor.
double worst_difference(const TinyResult& a, const TinyResult& b) {
  double worst = 0;
  for (const auto& [name, values] : a.gradients) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference += std::pow(values[i] - b.gradients.at(name)[i], 2);
      size += std::pow(values[i], 2);
    }
    worst = std::max(worst, std::sqrt(difference / size));
  }
  return worst;
}

TEST(MlpTiles, LossesAreTheSameBitsAndGradientsTheSameSums) {
  std::vector<ModelConfig> configs{base_run().config};
  configs.push_back(parse_model_config(R"({"model_type": "llama", "vocab_size": 131, "hidden_size": 24,
    "intermediate_size": 42, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1,
    "attention_bias": true, "mlp_bias": true, "initializer_range": 0.3, "tie_word_embeddings": false,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0})",
                                       "test"));
  for (const ModelConfig& config : configs)
    for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 2}, GridShape{1, 1, 2}})
      for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
        TinyRun run = base_run();
        run.config = config;
        run.grid = grid;
        run.recompute = recompute;
        const TinyResult whole = run_tiny(run);
        // Tiles of one row, tiles with an uneven last one, one row less than all, and all rows.
        const int64_t rows =
            2 * ((37 + 2 * grid.context * grid.tensor - 1) / (2 * grid.context * grid.tensor)) * 2 * grid.tensor;
        for (const int64_t tile : {int64_t{1}, int64_t{7}, int64_t{16}, rows - 1, int64_t{1000}}) {
          run.mlp_tile = tile;
          const TinyResult tiled = run_tiny(run);
          SCOPED_TRACE(fmt::format("cp {} tp {} tile {}", grid.context, grid.tensor, tile));
          // The reference computes products row by row.
          EXPECT_EQ(tiled.loss[0], whole.loss[0]);
          EXPECT_EQ(tiled.token_loss, whole.token_loss);
          EXPECT_LT(worst_difference(whole, tiled), 1e-12);
          EXPECT_NEAR(tiled.loss[1], whole.loss[1], 1e-12 * whole.loss[1]);
          if (tile == 1000) expect_same_bits(tiled, whole, "one tile is no tile");
        }
      }
}

TEST(MlpTiles, HoldATileOfTheWidth) {
  // Long enough that layers need more memory than the loss: 2 sequences of 512 rows; F = 40; gate, up, swiglu and its
  // gradient.
  TinyRun run = base_run();
  run.accumulation = 1;
  run.sequences = tiny_sequences(2, 512, 131);
  run.config.vocab_size = 131;
  run.loss_chunk_rows = 16;
  run.steps = 1;
  const TinyResult whole = run_tiny(run);
  run.mlp_tile = 64;
  const TinyResult tiled = run_tiny(run);
  EXPECT_EQ(whole.device_bytes - tiled.device_bytes, (1024u - 64) * 4 * 40 * 8);
}

TEST(MlpTiles, WorkWithOffloadAndOnTheCpu) {
  for (const DType compute : {DType::kFloat64, DType::kFloat32}) {
    TinyRun run = base_run();
    run.device = "cpu";
    run.compute = compute;
    const TinyResult whole = run_tiny(run);
    run.mlp_tile = 16;
    const TinyResult tiled = run_tiny(run);
    EXPECT_LT(worst_difference(whole, tiled), compute == DType::kFloat64 ? 1e-12 : 1e-5);
    run.offload = Offload::kAll;
    expect_same_bits(run_tiny(run), tiled, "tiles and offload");
  }
}

}  // namespace
}  // namespace carillon::testing
