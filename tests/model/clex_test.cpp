// CLEX alone and in a network: its values against another solver (tests/golden/clex_equation.py), its values before
// anything is learned, its gradients against central differences, and every layout against one rank.
#include "model/clex.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/rope.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

RopeConfig clex(const std::string& more = "") {
  return parse_rope_config(
      Json::parse(R"({"type": "clex", "factor": 8, "original_max_position_embeddings": 16)" + more + "}"), 64, "test",
      ExitCode::kUsage);
}

RopeConfig with_weights(RopeConfig config, int64_t pairs, int64_t hidden) {
  ClexWeights weights;
  weights.pairs = pairs, weights.hidden = hidden;
  for (int64_t i = 0; i < pairs * hidden; ++i) {
    weights.up.push_back(0.3 * std::sin(1 + static_cast<double>(i)));
    weights.down.push_back(0.05 * std::cos(2 + static_cast<double>(i)));
  }
  config.dynamics = std::make_shared<const ClexWeights>(std::move(weights));
  return config;
}

TEST(Clex, NumbersAreThoseOfItsEquation) {
  struct Row {
    const char* more;
    double stretch;
    std::vector<double> expected;
  };
  for (const Row& row :
       {Row{"", 2, {0.9798372843982, 0.06618324166505, 0.004665782737787, 0.0003381023672546}},
        Row{"", 5, {0.9157572436566, 0.03990497997302, 0.002063695534747, 0.0001184381719641}},
        Row{R"(, "activation": "silu")", 2, {0.9108551201375, 0.05446852753125, 0.0040663749873, 0.0003540952104211}},
        Row{R"(, "act": "silu")", 5, {0.6719450786833, 0.01670330035112, 0.001097439882907, 0.0001430028202225}}}) {
    const std::vector<double> found = clex_frequencies(with_weights(clex(row.more), 4, 8), 4, row.stretch);
    for (size_t i = 0; i < 4; ++i)
      EXPECT_NEAR(found[i] / row.expected[i], 1, 1e-7) << row.more << row.stretch << " " << i;
  }
}

// With W_down = 0 the solution of the equation is ntk with factor 2t − 1, for any W_up.
TEST(Clex, BeginsAsNtk) {
  RopeConfig config = with_weights(clex(), 8, 16);
  ClexWeights weights = *config.dynamics;
  std::fill(weights.down.begin(), weights.down.end(), 0);
  config.dynamics = std::make_shared<const ClexWeights>(weights);
  for (const double stretch : {1.0, 2.0, 3.5, 8.0}) {
    RopeConfig ntk = config;
    ntk.type = RopeType::kNtk, ntk.factor = 2 * stretch - 1;
    const RopeTable wanted = make_rope_table(ntk, 16, 1);
    const std::vector<double> learned = clex_frequencies(config, 8, stretch),
                              unlearned = clex_frequencies(clex(), 8, stretch);
    for (size_t i = 0; i < 8; ++i) {
      EXPECT_NEAR(learned[i] / wanted.inverse_frequency[i], 1, 1e-8) << stretch << " " << i;
      EXPECT_NEAR(unlearned[i] / wanted.inverse_frequency[i], 1, 1e-13) << stretch << " " << i;
    }
  }
}

TEST(Clex, GradientIsThatOfTheFrequencies) {
  for (const char* more : {"", R"(, "activation": "silu", "time_step": 0.3)"}) {
    const RopeConfig config = with_weights(clex(more), 4, 8);
    const std::vector<double> toward{0.3, -1, 2, 0.5};
    const auto value = [&](const RopeConfig& of) {
      const std::vector<double> frequencies = clex_frequencies(of, 4, 3);
      double sum = 0;
      for (size_t i = 0; i < 4; ++i) sum += toward[i] * std::log(frequencies[i]);
      return sum;
    };
    const ClexWeights gradient = clex_gradient(config, 4, 3, toward);
    const auto check = [&](std::vector<double> ClexWeights::*matrix) {
      for (size_t i = 0; i < 32; ++i) {
        double values[2];
        for (const int side : {0, 1}) {
          ClexWeights moved = *config.dynamics;
          (moved.*matrix)[i] += side == 0 ? 1e-5 : -1e-5;
          RopeConfig other = config;
          other.dynamics = std::make_shared<const ClexWeights>(moved);
          values[side] = value(other);
        }
        EXPECT_NEAR((values[0] - values[1]) / 2e-5, (gradient.*matrix)[i], 1e-8) << i;
      }
    };
    check(&ClexWeights::up);
    check(&ClexWeights::down);
  }
}

TEST(Clex, StretchIsHowOftenTheTrainedLengthFits) {
  for (const auto& [length, stretch] :
       std::vector<std::pair<int64_t, double>>{{1, 1}, {16, 1}, {17, 2}, {32, 2}, {33, 3}, {128, 8}, {4096, 8}})
    EXPECT_EQ(clex_stretch(clex(), length), stretch) << length;
  EXPECT_EQ(make_rope_table(clex(R"(, "length": 33)"), 8, 1).inverse_frequency, clex_frequencies(clex(), 4, 3));
}

TEST(Clex, OthersReadItAsLongRope) {
  const RopeConfig config = with_weights(clex(R"(, "resonance": true)"), 4, 8), said = clex_as_longrope(config, 4);
  EXPECT_EQ(said.type, RopeType::kLongRope);
  for (const int64_t length : {1, 16, 128}) {
    const RopeTable ours = make_rope_table(config, 8, length), theirs = make_rope_table(said, 8, length);
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(theirs.inverse_frequency[i] / ours.inverse_frequency[i], 1, 1e-14);
    EXPECT_EQ(theirs.attention_factor, 1);
  }
}

// ---- in a network

ModelConfig learning(ModelConfig config, const std::string& more = "") {
  static_cast<ModelRope&>(config) = merge_model_rope(
      config,
      Json::parse(R"({"type": "clex", "factor": 4, "original_max_position_embeddings": 16, "time_step": 0.1)" + more +
                  "}"),
      "test");
  return config;
}

// With random weights of the rotation, as after some steps: not zero.
TinyRun learning_run(const ModelConfig& config) {
  TinyRun run;
  run.config = config;
  run.random_rotation = true;
  run.zero = 0;
  run.sequences = tiny_sequences(4, 37, config.vocab_size, {20, 1, 16});
  return run;
}

ModelConfig qwen3() {
  return parse_model_config(
      R"({"model_type": "qwen3", "vocab_size": 131, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "initializer_range": 0.3, "attention_bias": false,
    "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 100.0})",
      "test");
}
// Half of each head rotates, and heads are normalised after the rotation.
ModelConfig hunyuan() {
  return parse_model_config(
      R"({"model_type": "hunyuan_v1_dense", "vocab_size": 131, "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3,
    "attention_bias": false, "tie_word_embeddings": true, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
    "rope_theta": 100.0, "use_qk_norm": true})",
      "test");
}

TEST(LearnedRotation, GradientsAreThoseOfTheLoss) {
  const std::string temperature = R"(, "llama_4_scaling_beta": 0.5, "cope": 2, "attention_factor": 1.3)";
  for (const ModelConfig& config : {learning(tiny_config(), temperature), learning(qwen3()), learning(hunyuan())}) {
    TinyRun run = learning_run(config);
    const TinyResult at = run_tiny(run);
    for (const char* name : {kOdeUp, kOdeDown}) {
      const std::vector<double>& gradient = at.gradients.at(name);
      double squares = 0;
      for (const double g : gradient) squares += g * g;
      EXPECT_GT(squares, 0) << name;
      const double h = 1e-5 / std::sqrt(squares);
      const auto loss_at = [&](double distance) {
        TinyRun moved = run;
        moved.move = {name, gradient, distance};
        return run_tiny(moved).loss[0];
      };
      const double targets = 4 * (19 + 15);
      const double slope = (loss_at(h) - loss_at(-h)) / (2 * h) * targets;
      EXPECT_NEAR(slope, squares, 1e-5 * squares) << name << " " << config.family << " " << config.head_dim;
    }
  }
}

TEST(LearnedRotation, EveryLayoutLearnsTheSame) {
  for (const ModelConfig& config : {learning(tiny_config()), learning(qwen3())}) {
    TinyRun run = learning_run(config);
    run.steps = 3;
    const TinyResult one = run_tiny(run);
    for (const GridShape grid : {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 1, 2}, GridShape{1, 1, 4},
                                 GridShape{1, 2, 2}, GridShape{2, 2, 1}})
      for (const int zero : {0, 1, 2}) {
        run.grid = grid;
        run.zero = zero;
        run.accumulation = grid.data == 1 && zero > 0 ? 2 : 1;
        const TinyResult many = run_tiny(run);
        SCOPED_TRACE(fmt::format("dp {} cp {} tp {} zero {}", grid.data, grid.context, grid.tensor, zero));
        for (int step = 0; step < run.steps; ++step) {
          ASSERT_NEAR(many.loss[step], one.loss[step], 1e-11 * one.loss[step]) << step;
          ASSERT_NEAR(many.gradient_norm[step], one.gradient_norm[step], 1e-9 * one.gradient_norm[step]) << step;
        }
        for (const char* name : {kOdeUp, kOdeDown})
          for (size_t i = 0; i < one.weights.at(name).size(); ++i)
            ASSERT_NEAR(many.weights.at(name)[i], one.weights.at(name)[i], 1e-10) << name << i;
      }
  }
}

TEST(LearnedRotation, RecomputeChangesNoBit) {
  TinyRun run = learning_run(learning(tiny_config()));
  run.recompute = Recompute::kNone;
  const TinyResult none = run_tiny(run);
  for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    run.recompute = recompute;
    EXPECT_EQ(run_tiny(run).gradients, none.gradients);
  }
}

}  // namespace
}  // namespace carillon::testing
