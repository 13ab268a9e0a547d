// The network against itself: finite differences of the whole loss, and every layout against one rank, in float64.
// (Against transformers: tests/golden.) Acceptance matrix A4-A9, A12, A13 of the project's parallelism reference.

#include "model/transformer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "parallel/transport/thread_communicator.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

// Relative Frobenius distance of two maps of tensors: that of the worst tensor.
double worst_difference(const std::map<std::string, std::vector<double>>& a,
                        const std::map<std::string, std::vector<double>>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (const auto& [name, values] : a) {
    const auto& others = b.at(name);
    EXPECT_EQ(values.size(), others.size()) << name;
    double difference = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference += (values[i] - others[i]) * (values[i] - others[i]);
      size += values[i] * values[i];
    }
    const double relative = std::sqrt(difference / std::max(size, 1e-300));
    EXPECT_TRUE(std::isfinite(relative)) << name;
    worst = std::max(worst, size == 0 ? std::sqrt(difference) : relative);
  }
  return worst;
}

TinyRun base_run() {
  TinyRun run;
  run.config = tiny_config();
  run.zero = 0;
  run.sequences = tiny_sequences(4, 37, 131, {20, 1, 16});
  return run;
}

std::vector<ModelConfig> architectures() {
  std::vector<ModelConfig> configs;
  auto add = [&](const char* text) { configs.push_back(parse_model_config(text, "test")); };
  configs.push_back(tiny_config());
  add(R"({"model_type": "llama", "vocab_size": 17, "hidden_size": 24, "intermediate_size": 42, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 1, "attention_bias": true, "mlp_bias": true, "initializer_range": 0.3,
    "tie_word_embeddings": false, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0})");
  add(R"({"model_type": "mistral", "vocab_size": 127, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "sliding_window": 7, "initializer_range": 0.3,
    "tie_word_embeddings": false, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0})");
  add(R"({"model_type": "qwen2", "vocab_size": 128, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "use_sliding_window": false,
    "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0})");
  add(R"({"model_type": "qwen3", "vocab_size": 131, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "initializer_range": 0.3, "attention_bias": false,
    "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0})");
  return configs;
}

TEST(Transformer, EveryLayoutGivesOneRanksLossesAndGradients) {
  for (const ModelConfig& config : architectures()) {
    TinyRun run = base_run();
    run.config = config;
    for (TinySequence& sequence : run.sequences)
      for (int64_t& token : sequence.tokens) token %= config.vocab_size;
    const TinyResult one = run_tiny(run);
    for (const GridShape grid : {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 3, 1}, GridShape{1, 4, 1},
                                 GridShape{1, 1, 2}, GridShape{1, 1, 4}, GridShape{1, 2, 2}, GridShape{2, 2, 2}}) {
      run.grid = grid;
      const TinyResult many = run_tiny(run);
      SCOPED_TRACE(fmt::format("{} dp {} cp {} tp {}", write_model_config(config).substr(0, 60), grid.data,
                               grid.context, grid.tensor));
      EXPECT_NEAR(many.loss[0], one.loss[0], 1e-12 * one.loss[0]);
      EXPECT_NEAR(many.gradient_norm[0], one.gradient_norm[0], 1e-10 * one.gradient_norm[0]);
      EXPECT_LT(worst_difference(one.gradients, many.gradients), 1e-10);
      for (size_t s = 0; s < one.token_loss.size(); ++s)
        for (size_t i = 0; i < one.token_loss[s].size(); ++i)
          ASSERT_NEAR(one.token_loss[s][i], many.token_loss[s][i], 1e-11) << s << " " << i;
    }
  }
}

TEST(Transformer, FiftyStepsStayTogether) {
  TinyRun run = base_run();
  run.steps = 50;
  run.sequences = tiny_sequences(2, 24, 131, {15, 9});
  const TinyResult one = run_tiny(run);
  EXPECT_LT(one.loss.back(), 0.9 * one.loss.front());
  for (const GridShape grid : {GridShape{1, 2, 1}, GridShape{1, 1, 2}, GridShape{2, 1, 1}, GridShape{1, 4, 1},
                               GridShape{1, 2, 2}, GridShape{2, 2, 1}, GridShape{2, 2, 2}})
    for (const int zero : {0, 1, 2}) {
      run.grid = grid;
      run.zero = zero;
      const TinyResult many = run_tiny(run);
      SCOPED_TRACE(fmt::format("dp {} cp {} tp {} zero {}", grid.data, grid.context, grid.tensor, zero));
      for (int step = 0; step < run.steps; ++step) {
        ASSERT_NEAR(many.loss[step], one.loss[step], 1e-9 * one.loss[step]) << step;
        ASSERT_NEAR(many.gradient_norm[step], one.gradient_norm[step], 1e-8 * one.gradient_norm[step]) << step;
      }
      EXPECT_LT(worst_difference(one.weights, many.weights), 1e-9);
    }
}

// Central differences through the whole network.
TEST(Transformer, GradientsAreThoseOfTheLoss) {
  for (const ModelConfig& config : architectures()) {
    TinyRun run = base_run();
    run.config = config;
    run.sequences = tiny_sequences(1, 13, config.vocab_size, {8, 5});
    const TinyResult at = run_tiny(run);
    // Along each tensor's own gradient, the slope of the summed loss must be the squared length of the gradient.
    for (const auto& [name, gradient] : at.gradients) {
      double squares = 0;
      for (double g : gradient) squares += g * g;
      if (squares == 0) continue;
      const double h = 1e-5 / std::sqrt(squares);
      auto loss_at = [&](double distance) {
        TinyRun moved = run;
        moved.move = {name, gradient, distance};
        return run_tiny(moved).loss[0];
      };
      const double targets = 11;  // 13 tokens, two documents
      const double slope = (loss_at(h) - loss_at(-h)) / (2 * h) * targets;
      EXPECT_NEAR(slope, squares, 1e-6 * squares) << name;
    }
  }
}

TEST(Transformer, RecomputeChangesNoBit) {
  TinyRun run = base_run();
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 2}})
    for (const char* device : {"reference", "cpu"}) {
      run.grid = grid;
      run.device = device;
      run.recompute = Recompute::kNone;
      const TinyResult none = run_tiny(run);
      for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
        run.recompute = recompute;
        const TinyResult other = run_tiny(run);
        EXPECT_EQ(other.loss, none.loss);
        EXPECT_EQ(other.weights, none.weights);
        EXPECT_EQ(worst_difference(none.gradients, other.gradients), 0) << device;
      }
    }
}

TEST(Transformer, LossChunksChangeNothing) {
  TinyRun run = base_run();
  const TinyResult whole = run_tiny(run);
  for (const int tp : {1, 2})
    for (const int64_t chunk : {1, 7, 47, 128}) {
      run.grid.tensor = tp;
      run.loss_chunk_rows = chunk;
      const TinyResult chunked = run_tiny(run);
      EXPECT_NEAR(chunked.loss[0], whole.loss[0], 1e-12);
      EXPECT_LT(worst_difference(whole.gradients, chunked.gradients), 1e-12);
    }
}

// A6: masks that are uneven over ranks; a wrong factor of ½ or ¼ would be noticed.
TEST(Transformer, LossMasksUnevenOverRanks) {
  const std::vector<std::vector<double>> masks = [] {
    std::vector<std::vector<double>> result(5, std::vector<double>(32, 0));
    result[0].assign(32, 1);
    result[1][5] = 1;                                            // one valid token
    for (int i = 16; i < 32; ++i) result[2][i] = 1;              // none on some rank
    for (int i = 0; i < 32; i += 2) result[3][i] = 1;            // alternating
    for (int i = 0; i < 32; ++i) result[4][i] = 0.25 * (i % 5);  // weights
    return result;
  }();
  for (size_t m = 0; m < masks.size(); ++m)
    for (const int accumulation : {1, 2, 3}) {
      TinyRun run = base_run();
      run.sequences = tiny_sequences(6, 32, 131);
      for (size_t s = 0; s < run.sequences.size(); ++s) run.sequences[s].weights = s % 2 == 0 ? masks[m] : masks[0];
      const TinyResult one = run_tiny(run);
      for (const GridShape grid : {GridShape{1, 2, 1}, GridShape{2, 1, 1}, GridShape{1, 2, 2}, GridShape{2, 2, 2}}) {
        if (run.sequences.size() % (grid.data * accumulation) != 0) continue;
        run.grid = grid;
        run.accumulation = accumulation;
        const TinyResult many = run_tiny(run);
        EXPECT_NEAR(many.loss[0], one.loss[0], 1e-12 * one.loss[0]) << m;
        EXPECT_NEAR(many.gradient_norm[0], one.gradient_norm[0], 1e-10 * one.gradient_norm[0]) << m;
        EXPECT_LT(worst_difference(one.gradients, many.gradients), 1e-10) << m;
      }
    }
}

// A4's leak probe: changing one token changes exactly the later losses of the same document.
TEST(Transformer, NothingLeaksBetweenDocuments) {
  TinyRun run = base_run();
  run.sequences = tiny_sequences(1, 59, 131, {17, 31, 11});
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 4, 1}, GridShape{1, 2, 2}}) {
    run.grid = grid;
    const TinyResult before = run_tiny(run);
    TinyRun changed = run;
    changed.sequences[0].tokens[20] = (changed.sequences[0].tokens[20] + 1) % 131;
    const TinyResult after = run_tiny(changed);
    for (int i = 0; i < 59; ++i) {
      const bool should_change = i >= 19 && i < 47;  // row 19 has token 20 as its target
      EXPECT_EQ(before.token_loss[0][i] != after.token_loss[0][i], should_change) << i;
    }
  }
}

// A5: lengths that need 1 … 2W-1 padding tokens.
TEST(Transformer, PaddingChangesNothing) {
  for (int64_t length = 17; length <= 24; ++length) {
    TinyRun run = base_run();
    run.sequences = tiny_sequences(2, length, 131);
    const TinyResult one = run_tiny(run);
    for (const int cp : {2, 4, 8}) {
      run.grid = {1, cp, 1};
      const TinyResult many = run_tiny(run);
      EXPECT_NEAR(many.loss[0], one.loss[0], 1e-12);
      EXPECT_LT(worst_difference(one.gradients, many.gradients), 1e-10);
    }
  }
}

TEST(Transformer, SameLayoutGivesTheSameBits) {
  TinyRun run = base_run();
  run.device = "cpu";
  run.compute = DType::kFloat32;
  run.steps = 3;
  for (const GridShape grid : {GridShape{1, 2, 2}, GridShape{1, 4, 1}, GridShape{2, 2, 1}}) {
    run.grid = grid;
    const TinyResult first = run_tiny(run);
    const TinyResult second = run_tiny(run);
    EXPECT_EQ(first.loss, second.loss);
    EXPECT_EQ(first.weights, second.weights);
    const ScopedExchangeDelay delay(300);  // A9: hops that arrive late
    const TinyResult late = run_tiny(run);
    EXPECT_EQ(first.loss, late.loss);
    EXPECT_EQ(first.weights, late.weights);
  }
}

}  // namespace
}  // namespace carillon::testing
