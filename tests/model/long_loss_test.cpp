// LongCE by the formula of its paper: the weights from losses of windows that are run separately, the gradient as that
// of the weighted sum with constant weights, and every layout against one rank.
#include "model/long_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/tiny_run.h"

namespace carillon::testing {
namespace {

constexpr LongLossSettings kSettings{6, 4, 1.2};  // so small a bound that it limits some weights and not others

TinyRun base_run() {
  TinyRun run;
  run.config = tiny_config();
  run.zero = 0;
  run.sequences = tiny_sequences(4, 37, 131, {20, 1, 16});
  run.long_loss = kSettings;
  return run;
}

// A document alone, without LongCE: the loss of each token given all tokens before it, by index of the token.
std::vector<double> losses_of(TinyRun run, const std::vector<int64_t>& tokens) {
  if (tokens.size() < 2) return {0};
  run.long_loss.reset();
  run.sequences = {TinySequence{tokens, {static_cast<int64_t>(tokens.size())}, {}}};
  std::vector<double> losses = run_tiny(run).token_loss[0];  // by the row that predicts
  losses.insert(losses.begin(), 0);
  losses.pop_back();
  return losses;
}

// The weight of every token as a target, by the definition and with the windows of the published code: token i ≥ K of a
// document is evaluated a second time with s = ⌊(i − K)/stride⌋·stride as the first token of its context.
std::vector<double> expected_weights(const TinyRun& run, const TinySequence& sequence) {
  const LongLossSettings& settings = *run.long_loss;
  std::vector<double> weights;
  int64_t begin = 0;
  for (const int64_t length : sequence.document_lengths) {
    const std::vector<int64_t> document(sequence.tokens.begin() + begin, sequence.tokens.begin() + begin + length);
    const std::vector<double> whole = losses_of(run, document);
    for (int64_t i = 0; i < length; ++i) {
      double weight = 1;
      if (i >= settings.context) {
        const int64_t start = (i - settings.context) / settings.stride * settings.stride;
        const std::vector<int64_t> window(document.begin() + start, document.begin() + i + 1);
        const double brief = losses_of(run, window).back();
        weight = std::min(std::exp(brief - whole[static_cast<size_t>(i)]), settings.largest_weight);
      }
      weights.push_back(weight);
    }
    begin += length;
  }
  return weights;
}

double worst_difference(const std::map<std::string, std::vector<double>>& a,
                        const std::map<std::string, std::vector<double>>& b) {
  double worst = 0;
  for (const auto& [name, values] : a) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      difference += (values[i] - b.at(name)[i]) * (values[i] - b.at(name)[i]);
      size += values[i] * values[i];
    }
    worst = std::max(worst, std::sqrt(difference / std::max(size, 1e-300)));
  }
  return worst;
}

// The toy example of the project's methods reference: log p −0.5 −1 −3 −0.1 with, −3 −1.5 −6 −2.5 without the long
// context.
TEST(LongLoss, WeightsAreThoseOfTheFormula) {
  const std::vector<double> with = {0.5, 1, 3, 0.1}, without = {3, 1.5, 6, 2.5};
  double sum = 0;
  for (size_t i = 0; i < with.size(); ++i) sum += long_loss_weight(with[i], without[i], 5) * with[i];
  EXPECT_DOUBLE_EQ(long_loss_weight(0.5, 3, 5), 5);
  EXPECT_NEAR(long_loss_weight(1, 1.5, 5), 1.6487212707, 1e-10);
  EXPECT_NEAR(sum / 4, 4.9121803177, 1e-10);
  EXPECT_EQ(long_loss_weight(2, 2, 5), 1);
  EXPECT_LT(long_loss_weight(2, 1, 5), 1) << "where the short context knew better";
  EXPECT_DOUBLE_EQ(long_loss_weight(0, 1e6, 5), 5) << "no infinity";
  EXPECT_EQ(long_loss_weight(1e6, 0, 5), 0);
  EXPECT_TRUE(std::isnan(long_loss_weight(std::numeric_limits<double>::quiet_NaN(), 1, 5)));
  EXPECT_TRUE(std::isnan(long_loss_weight(1, std::numeric_limits<double>::quiet_NaN(), 5)));
}

TEST(LongLoss, IsTheSumTheFormulaSaysAndItsGradientWithConstantWeights) {
  TinyRun run = base_run();
  run.sequences = tiny_sequences(2, 37, 131, {20, 1, 16});
  run.sequences[1].document_lengths = {37};
  for (int i = 0; i < 37; ++i) run.sequences[1].weights.push_back(i % 7 == 3 ? 0 : 0.5 + 0.25 * (i % 3));
  const TinyResult longce = run_tiny(run);

  // The same sum as cross-entropy with these weights in the data.
  TinyRun plain = run;
  plain.long_loss.reset();
  double weight = 0, mean = 0;
  int clipped = 0, lowered = 0;
  for (TinySequence& sequence : plain.sequences) {
    std::vector<double> weights = expected_weights(run, sequence);
    for (size_t i = 0, begin = 0, document = 0; i < weights.size(); ++i) {
      const double data = sequence.weights.empty() ? 1 : sequence.weights[i];
      if (i == begin)
        begin += static_cast<size_t>(sequence.document_lengths[document++]);  // the first token is no target
      else
        weight += data;
      clipped += weights[i] == kSettings.largest_weight, lowered += weights[i] < 1;
      weights[i] *= data;
    }
    sequence.weights = weights;
  }
  EXPECT_GT(clipped, 3);
  EXPECT_GT(lowered, 3);
  const TinyResult weighted = run_tiny(plain);
  for (size_t s = 0; s < plain.sequences.size(); ++s)
    for (size_t row = 0; row + 1 < plain.sequences[s].weights.size(); ++row)
      mean += plain.sequences[s].weights[row + 1] * weighted.token_loss[s][row] / weight;
  EXPECT_NEAR(longce.loss[0], mean, 1e-12);
  EXPECT_LT(worst_difference(weighted.gradients, longce.gradients), 1e-12);

  TinyRun unweighted = run;
  unweighted.long_loss.reset();
  const TinyResult cross_entropy = run_tiny(unweighted);
  EXPECT_NEAR(longce.cross_entropy[0], cross_entropy.loss[0], 1e-12);
  EXPECT_GT(std::abs(longce.loss[0] - cross_entropy.loss[0]), 1e-3);
  run.long_loss = LongLossSettings{20, 4, 5};  // no document is longer than the context
  run.sequences = tiny_sequences(2, 37, 131, {20, 1, 16});
  unweighted.sequences = run.sequences;
  EXPECT_EQ(run_tiny(run).loss, run_tiny(unweighted).loss);
}

TEST(LongLoss, EveryLayoutGivesOneRanksLossesAndGradients) {
  for (const LongLossSettings& settings : {kSettings, LongLossSettings{3, 1, 5}, LongLossSettings{11, 7, 5}}) {
    TinyRun run = base_run();
    run.long_loss = settings;
    run.steps = 3;
    run.sequences[1].document_lengths = {37};
    run.sequences[2].document_lengths = {5, 32};
    const TinyResult one = run_tiny(run);
    EXPECT_NE(one.loss, one.cross_entropy);
    for (const GridShape grid : {GridShape{2, 1, 1}, GridShape{1, 2, 1}, GridShape{1, 4, 1}, GridShape{1, 1, 2},
                                 GridShape{1, 4, 1, 2}, GridShape{2, 2, 2}})
      for (const LayoutKind layout : {LayoutKind::kZigzag, LayoutKind::kContiguous}) {
        run.grid = grid;
        run.layout = layout;
        run.accumulation = grid.data == 1 ? 2 : 1;
        const TinyResult many = run_tiny(run);
        SCOPED_TRACE(fmt::format("dp {} cp {} tp {}", grid.data, grid.context, grid.tensor));
        for (size_t step = 0; step < one.loss.size(); ++step) {
          EXPECT_NEAR(many.loss[step], one.loss[step], 1e-10 * one.loss[step]);
          EXPECT_NEAR(many.cross_entropy[step], one.cross_entropy[step], 1e-10 * one.cross_entropy[step]);
          EXPECT_NEAR(many.gradient_norm[step], one.gradient_norm[step], 1e-10 * one.gradient_norm[step]);
        }
        EXPECT_LT(worst_difference(one.gradients, many.gradients), 1e-10);
      }
  }
}

// Forward-only passes start no copies to the host and keep no activations.
TEST(LongLoss, OffloadAndRecomputationChangeNoBit) {
  TinyRun run = base_run();
  set_depth(run.config, 4);
  run.steps = 2;
  run.device = "isolated";
  const TinyResult kept = run_tiny(run);
  for (const Recompute recompute : {Recompute::kSelective, Recompute::kFull})
    for (const Offload offload : {Offload::kNone, Offload::kCheckpoints}) {
      run.recompute = recompute;
      run.offload = offload;
      const TinyResult other = run_tiny(run);
      EXPECT_EQ(other.loss, kept.loss);
      EXPECT_EQ(other.weights, kept.weights);
    }
}

// Weights that are not finite make the loss non-finite on every layout, so the step is skipped like any other such
// step.
TEST(LongLoss, IsNotFiniteWhereTheModelIsNot) {
  TinyRun run = base_run();
  run.config.initializer_range = std::numeric_limits<double>::quiet_NaN();
  for (const GridShape grid : {GridShape{1, 1, 1}, GridShape{1, 2, 1}}) {
    run.grid = grid;
    EXPECT_FALSE(std::isfinite(run_tiny(run).loss[0]));
  }
}

}  // namespace
}  // namespace carillon::testing
