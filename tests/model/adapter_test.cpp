// Adapters in the network, in float64: finite differences, every layout against one rank, which weights are frozen,
// dropout by counter, and that each deliberate mistake is noticed. (Against PEFT: tests/golden.) Acceptance matrix A14
// and A18.
#include "model/adapter_config.h"

#include <cmath>

#include "tests/support/mutation.h"

namespace carillon::testing {
namespace {

TinyRun adapter_run(double dropout = 0) {
  TinyRun run;
  run.config = tiny_config();
  run.config.adapter = new_adapter(run.config, {.rank = 3, .alpha = 6, .dropout = dropout});
  run.random_adapter = true;
  run.zero = 0;
  run.steps = 2;
  run.learning_rate = 1e-2;
  run.sequences = tiny_sequences(4, 37, 131, {20, 1, 16});
  return run;
}

// Several key heads; one key head for all queries; and a family with norms on both sides and layers that differ.
std::vector<ModelConfig> architectures() {
  std::vector<ModelConfig> configs{tiny_config()};
  configs.push_back(parse_model_config(R"({"model_type": "llama", "vocab_size": 131, "hidden_size": 24,
    "intermediate_size": 42, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1,
    "attention_bias": true, "mlp_bias": true, "initializer_range": 0.3, "tie_word_embeddings": false,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0})",
                                       "test"));
  configs.push_back(parse_model_config(R"({"model_type": "gemma3_text", "vocab_size": 131, "hidden_size": 24,
    "intermediate_size": 42, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "initializer_range": 0.3, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"],
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0})",
                                       "test"));
  return configs;
}

TEST(Adapter, EveryLayoutTrainsTheSameAdapter) {
  for (const ModelConfig& config : architectures())
    for (const double dropout : {0.0, 0.25}) {
      TinyRun run = adapter_run(dropout);
      run.config = config;
      run.config.adapter = new_adapter(config, {.rank = 3, .alpha = 6, .dropout = dropout});
      const TinyResult one = run_tiny(run);
      for (const GridShape grid : {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 3, 1}, GridShape{1, 1, 2},
                                   GridShape{1, 1, 4}, GridShape{1, 2, 2}, GridShape{2, 2, 2}}) {
        run.grid = grid;
        for (const int zero : {0, 2}) {
          run.zero = zero;
          SCOPED_TRACE(fmt::format("{} dropout {} dp {} cp {} tp {} zero {}", config.source.value("model_type", ""),
                                   dropout, grid.data, grid.context, grid.tensor, zero));
          EXPECT_LT(difference(one, run_tiny(run)), 1e-10);
        }
      }
    }
}

TEST(Adapter, GradientsAreThoseOfTheLoss) {
  for (const ModelConfig& config : architectures())
    for (const double dropout : {0.0, 0.25}) {
      TinyRun run = adapter_run(dropout);
      run.config = config;
      // Ranks and scales differ between two layers, and one layer has no adapter on the MLP's output projection.
      run.config.adapter = new_adapter(config, {.rank = 2, .alpha = 6, .dropout = dropout, .rslora = true});
      run.config.adapter.modules["model.layers.1.self_attn.k_proj"] = {5, 1};
      run.config.adapter.modules.erase("model.layers.0.mlp.down_proj");
      run.steps = 1;
      run.sequences = tiny_sequences(1, 13, config.vocab_size, {8, 5});
      const TinyResult at = run_tiny(run);
      EXPECT_EQ(at.gradients.size(), 2 * (2 * 7 - 1));
      for (const auto& [name, gradient] : at.gradients) {
        double squares = 0;
        for (double g : gradient) squares += g * g;
        ASSERT_GT(squares, 0) << name;
        const double h = 1e-5 / std::sqrt(squares);
        const auto loss_at = [&](double distance) {
          TinyRun moved = run;
          moved.move = {name, gradient, distance};
          return run_tiny(moved).loss[0];
        };
        const double targets = 11;  // 13 tokens, two documents
        EXPECT_NEAR((loss_at(h) - loss_at(-h)) / (2 * h) * targets, squares, 1e-6 * squares) << name << " " << dropout;
      }
    }
}

TEST(Adapter, RecomputationOffloadAndChunksChangeNoBitAndTilesNoDigit) {
  for (const double dropout : {0.0, 0.25}) {
    TinyRun run = adapter_run(dropout);
    run.grid = {1, 2, 2};
    run.recompute = Recompute::kNone;
    const TinyResult kept = run_tiny(run);
    for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
      run.recompute = recompute;
      EXPECT_EQ(difference(kept, run_tiny(run)), 0);
    }
    run.tensor_chunks = 3;
    EXPECT_LT(difference(kept, run_tiny(run)), 1e-12);
    run.mlp_tile = 7;
    EXPECT_LT(difference(kept, run_tiny(run)), 1e-12);
  }
}

TEST(Adapter, TheBaseIsFrozenAndHasNoState) {
  TinyRun run = adapter_run();
  run.steps = 3;
  const TinyResult trained = run_tiny(run);
  run.learning_rate = 0;
  const TinyResult still = run_tiny(run);
  for (const auto& [name, values] : trained.weights)
    EXPECT_EQ(values != still.weights.at(name), name.starts_with(kAdapterPrefix)) << name;
  for (const auto& [name, values] : trained.state) EXPECT_NE(name.find(kAdapterPrefix), std::string::npos) << name;
}

TEST(Adapter, BeginsByChangingNothing) {
  TinyRun run = adapter_run();
  run.random_adapter = false;
  run.steps = 1;
  const TinyResult with = run_tiny(run);
  run.config.adapter = {};
  EXPECT_EQ(with.loss[0], run_tiny(run).loss[0]);
  // Uniform within ± 1/√in, on every layout.
  const auto& a = with.weights.at("base_model.model.model.layers.1.mlp.down_proj.lora_A.weight");
  double largest = 0;
  for (const double value : a) largest = std::max(largest, std::abs(value));
  EXPECT_LE(largest, (1 + 1e-12 + 1e-2) / std::sqrt(40.0));
  EXPECT_GT(largest, 0.9 / std::sqrt(40.0));
}

// Rows of 24 and 40, so that blocks of 64 begin and end within rows and within a rank's columns.
TEST(Adapter, AQuantisedBaseIsTheSameOnEveryLayout) {
  for (const Quantization kind : {Quantization::kInt8, Quantization::kNf4})
    for (const ModelConfig& config : architectures()) {
      TinyRun run = adapter_run();
      run.config = config;
      run.config.adapter = new_adapter(config, {.rank = 3, .alpha = 6});
      const TinyResult whole = run_tiny(run);
      run.config.adapter.base_quantization = kind;
      const TinyResult one = run_tiny(run);
      double largest = 0, moved = 0;
      for (const auto& [name, values] : one.weights) {
        // Embedding, head and norms are unchanged.
        const bool linear = name.find("_proj.weight") != std::string::npos;
        EXPECT_EQ(values != whole.weights.at(name), linear || name.starts_with(kAdapterPrefix)) << name;
        if (!linear) continue;
        for (size_t i = 0; i < values.size(); ++i) {
          largest = std::max(largest, std::abs(whole.weights.at(name)[i]));
          moved = std::max(moved, std::abs(values[i] - whole.weights.at(name)[i]));
        }
      }
      EXPECT_LT(moved, (kind == Quantization::kNf4 ? 0.16 : 0.005) * largest);
      EXPECT_GT(difference(one, whole), kind == Quantization::kNf4 ? 1e-3 : 1e-5);
      for (const GridShape grid :
           {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 1, 2}, GridShape{1, 1, 4}, GridShape{2, 2, 2}}) {
        run.grid = grid;
        const TinyResult many = run_tiny(run);
        SCOPED_TRACE(fmt::format("{} {} dp {} cp {} tp {}", name_of(kind), config.source.value("model_type", ""),
                                 grid.data, grid.context, grid.tensor));
        EXPECT_LT(difference(one, many), 1e-10);
        for (const auto& [name, values] : one.weights)
          if (!name.starts_with(kAdapterPrefix)) {
            EXPECT_EQ(values, many.weights.at(name)) << name;
          }
      }
    }
}

TEST(Adapter, TilesAndRecomputationTakeAQuantisedBase) {
  for (const Quantization kind : {Quantization::kInt8, Quantization::kNf4}) {
    TinyRun run = adapter_run(0.25);
    run.config.adapter.base_quantization = kind;
    run.grid = {1, 2, 2};
    run.recompute = Recompute::kNone;
    const TinyResult kept = run_tiny(run);
    run.recompute = Recompute::kFull;
    EXPECT_EQ(difference(kept, run_tiny(run)), 0);
    run.mlp_tile = 7;
    run.tensor_chunks = 3;
    EXPECT_LT(difference(kept, run_tiny(run)), 1e-12);
  }
}

TEST(Adapter, AQuantisedBaseTakesLessMemory) {
  TinyRun run = adapter_run();
  set_depth(run.config, 8);
  run.config.hidden_size = 64, run.config.head_dim = 16, run.config.intermediate_size = 384;
  run.config.adapter = new_adapter(run.config, {.rank = 3, .alpha = 6});
  run.compute = DType::kBFloat16;
  run.steps = 1;
  const auto bytes = [&](Quantization kind) {
    run.config.adapter.base_quantization = kind;
    return static_cast<double>(run_tiny(run).device_bytes);
  };
  const double none = bytes(Quantization::kNone), eight = bytes(Quantization::kInt8), four = bytes(Quantization::kNf4);
  // In the linear layers, two bytes per weight become 1 + 4/64, or 1/2 + 1/64 plus the tables. The dequantised weight
  // of one product needs additional memory, unless it fits into the working memory of the loss.
  const double all = 8.0 * 64 * (64 + 2 * 32 + 64 + 3 * 384), scratch = 2.0 * 64 * 2 * 384, tables = 8.0 * 7 * 4 * 300;
  EXPECT_LT(none - eight, (1 - 4.0 / 64) * all);
  EXPECT_GT(none - eight, (1 - 4.0 / 64) * all - scratch - 0.01 * all);
  EXPECT_LT(none - four, (1.5 - 1.0 / 64) * all);
  EXPECT_GT(none - four, (1.5 - 1.0 / 64) * all - scratch - tables - 0.01 * all);
}

TEST(Adapter, DropoutKeepsTheExpectedShareAndScale) {
  TinyRun run = adapter_run(0.25);
  const TinyResult dropped = run_tiny(run);
  run.config.adapter.dropout = 0;
  const TinyResult whole = run_tiny(run);
  EXPECT_GT(difference(dropped, whole), 1e-6);
  run.config.adapter.dropout = 0.25;
  run.seed = 8;
  EXPECT_GT(difference(dropped, run_tiny(run)), 1e-6);
}

struct Mutation {
  InjectedFault mistake;
  GridShape grid;  // where it has an effect
  double dropout = 0;
};
class AdapterMutation : public ::testing::TestWithParam<Mutation> {};

TEST_P(AdapterMutation, IsSeen) { expect_seen(adapter_run(GetParam().dropout), GetParam().grid, GetParam().mistake); }

INSTANTIATE_TEST_SUITE_P(Mistakes, AdapterMutation,
                         ::testing::Values(Mutation{InjectedFault::kReplicatedGradientNotSummed, {1, 1, 2}},
                                           Mutation{InjectedFault::kReplicatedGradientNotSummed, {1, 1, 4}},
                                           Mutation{InjectedFault::kAdapterScaleDoubled, {1, 1, 1}},
                                           Mutation{InjectedFault::kAdapterDropoutByRank, {1, 2, 1}, 0.25},
                                           Mutation{InjectedFault::kAdapterDropoutByRank, {1, 1, 2}, 0.25}));

}  // namespace
}  // namespace carillon::testing
