// Which evaluation is the best, when patience runs out, and the checksum of event files.
#include "launch/evaluate/watched_metric.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "launch/train/event_file.h"
#include "runtime/error.h"

namespace carillon::testing {
namespace {

RunConfig run_with(const Json& tasks) {
  RunConfig run;
  run.data.sequence_length = 64;
  run.data.validation = {{"v.jsonl", std::nullopt, std::nullopt}};
  run.eval.every_steps = 1;
  run.eval.tasks = tasks;
  run.eval.lengths = {16, 64, 32};
  run.eval.rope = {{"own", Json::object()}, {"long", {{"factor", 2}}}};
  return run;
}
WatchedMetric watched(const std::string& metric, const RunConfig& run) { return {metric, run, training_sweep(run)}; }
Json record(int64_t step, const std::string& task, const std::string& rope, int64_t length, const Json& metrics) {
  return {{"step", step},     {"task", task},   {"rope_name", rope},
          {"length", length}, {"status", "ok"}, {"metrics", metrics}};
}

TEST(WatchedMetric, IsOfTheLongestLengthAndTheFirstRope) {
  const RunConfig run = run_with(Json::array({{{"task", "posgen"}}, {{"task", "perplexity"}}}));
  const WatchedMetric loss = watched("validation.loss", run);
  const std::vector<Json> records{
      record(3, "perplexity", "own", 64, {{"loss", 7.0}}), record(4, "perplexity", "own", 64, {{"loss", 2.5}}),
      record(4, "perplexity", "own", 32, {{"loss", 1.0}}), record(4, "perplexity", "long", 64, {{"loss", 1.0}}),
      record(4, "posgen", "own", 64, {{"loss", 1.0}, {"ood_accuracy", 0.5}})};
  EXPECT_EQ(loss.value_in(records, 4), 2.5);
  EXPECT_EQ(loss.value_in(records, 5), std::nullopt);
  EXPECT_TRUE(loss.better(1, 2));
  const WatchedMetric accuracy = watched("posgen.ood_accuracy", run);
  EXPECT_EQ(accuracy.value_in(records, 4), 0.5);
  EXPECT_TRUE(accuracy.better(2, 1)) << "accuracies are better when higher";
}

TEST(WatchedMetric, HigherIsBetterForWhatMeasuresSuccess) {
  const RunConfig run =
      run_with(Json::array({{{"task", "embedding"}}, {{"task", "passkey"}}, {{"task", "perplexity"}}}));
  for (const char* metric : {"embedding.ndcg_10", "embedding.mean_reciprocal_rank", "embedding.margin",
                             "embedding.accuracy", "passkey.perfect", "passkey.accuracy"})
    EXPECT_TRUE(watched(metric, run).better(2, 1)) << metric;
  for (const char* metric : {"perplexity.loss", "perplexity.bits_per_byte"})
    EXPECT_TRUE(watched(metric, run).better(1, 2)) << metric;
}

TEST(WatchedMetric, WhatIsNeverMeasuredIsRefused) {
  const Json both = Json::array({{{"task", "posgen"}, {"name", "far"}}, {{"task", "perplexity"}}});
  RunConfig without_schedule = run_with(both), without_data = run_with(both), without_task = run_with(both);
  without_schedule.eval.every_steps = std::nullopt;
  without_data.data.validation.clear();
  without_task.eval.tasks = Json::array({{{"task", "posgen"}}});
  for (const auto& [metric, run] : {std::pair("validation.loss", without_schedule),
                                    {"validation.loss", without_data},
                                    {"validation.loss", without_task},
                                    {"posgen.accuracy", run_with(both)},
                                    {"loss", run_with(both)},
                                    {".loss", run_with(both)},
                                    {"far.", run_with(both)},
                                    {"far.accuracy", run_with(both)},
                                    {"validation.losses", run_with(both)}}) {
    try {
      watched(metric, run);
      ADD_FAILURE() << metric;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage) << error.what();
      EXPECT_THAT(error.what(), ::testing::AnyOf(::testing::HasSubstr("checkpoint.best.metric"),
                                                 ::testing::HasSubstr("data.validation")));
    }
  }
  EXPECT_NO_THROW(watched("far.ood_accuracy", run_with(both)));
}

TEST(BestSoFar, BestIsStrictAndGainsAreLargerThanTheirLeast) {
  const WatchedMetric loss = watched("validation.loss", run_with(Json::array({{{"task", "perplexity"}}})));
  BestSoFar best;
  struct Step {
    std::optional<double> figure;
    bool is_best;
    int64_t without_gain;
  };
  int64_t step = 0;
  // A gain must be more than 0.25 below the last gain; small improvements add up to one.
  for (const Step& each : {Step{4.0, true, 0},
                           {3.875, true, 1},
                           {3.75, true, 2},
                           {3.625, true, 0},
                           {3.625, false, 1},
                           {NAN, false, 2},
                           {std::nullopt, false, 3},
                           {3.0, true, 0},
                           {9.0, false, 1}}) {
    EXPECT_EQ(best.judge(loss, each.figure, ++step, 0.25), each.is_best) << step;
    EXPECT_EQ(best.without_gain, each.without_gain) << step;
  }
  EXPECT_EQ(best.value, 3.0);
  EXPECT_EQ(best.step, 8);
  EXPECT_FALSE(best.judge(loss, 1.0, step, 0.25)) << "an evaluation counts once";
  EXPECT_EQ(best.without_gain, 1);
}

TEST(EventFile, ChecksumIsCastagnoli) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // the check value from the catalogue of CRCs
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(""), 0u);
}

}  // namespace
}  // namespace carillon::testing
