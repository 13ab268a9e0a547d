// A run's position in the data, read from its checkpoints: from new ones that count sequences, and from old ones that
// count steps.
#include "launch/train/training_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

struct TrainingStateTest : ::testing::Test {
  TemporaryFolder folder;
  RunConfig config;
  std::unique_ptr<Communicator> world = solo_communicator("world");

  TrainingStateTest() {
    config.output = folder.path();
    config.model.base = "m";
    config.train.max_steps = 100;
    config.train.micro_batch_size = 3;
    config.train.gradient_accumulation_steps = 2;
  }
  void save(int64_t step, const Json& data) {
    Manifest manifest;
    manifest.step = step;
    manifest.data = data;
    manifest.layout = {{"data", 4}};
    manifest.config = {{"run", to_json(config)}};
    float value = 1;
    const std::vector<NamedShard> shards{{"model/a", Rectangle::whole({1}), Tensor(&value, DType::kFloat32, {1})}};
    ASSERT_TRUE(save_checkpoint(*world, checkpoints_folder(config), manifest, shards, 3).saved);
  }
  std::vector<ResumePoint> points() {
    return find_resume_points(*world, config, [](const std::string&) {});
  }
};

TEST_F(TrainingStateTest, OldCheckpointsCountedStepsOfTheirOwnSize) {
  const Json counts = {{"step", 5}, {"tokens_total", 50}, {"updates", 5}, {"nonfinite_steps", 0}};
  save(5, counts);
  Json with = counts;
  with["sequences"] = 77;
  save(6, with);
  config.train.micro_batch_size = 1;  // the block size of the resumed run has no effect
  const auto found = points();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].state.sequences, 77);
  EXPECT_EQ(found[1].state.sequences, 5 * 3 * 2 * 4);
}

TEST_F(TrainingStateTest, AnEpochEndsBehindItsLastSequence) {
  config.train.max_steps.reset();
  config.train.epochs = 2;
  TrainingState state;
  EXPECT_EQ(total_steps(config.train, state, 30, 1), 60);
  EXPECT_EQ(total_steps(config.train, state, 30, 7), 9);
  state.step = 20, state.sequences = 20;
  EXPECT_EQ(total_steps(config.train, state, 30, 3), 34);  // 40 sequences left: 13 steps of 3, and one more
  state.step = 70, state.sequences = 70;
  EXPECT_EQ(total_steps(config.train, state, 30, 3), 70) << "nothing is left";
  config.train.epochs = 0.1;
  EXPECT_EQ(total_steps(config.train, {}, 30, 1), 3) << "0.1 · 30 is a little more than 3 in binary";
  config.train.epochs = 1e300;
  EXPECT_THROW(total_steps(config.train, {}, 30, 1), Error);
}

TEST_F(TrainingStateTest, OtherDataIsNamedAndMovedDataIsNot) {
  Manifest manifest;
  EXPECT_TRUE(data_changes(manifest, {{"a", 1, "x"}}, nullptr).empty()) << "a checkpoint of before says nothing";
  manifest.data = {{"sources", {{{"path", "a"}, {"size", 1}, {"hash", "x"}}, {{"path", "b"}, {"hash", "y"}}}}};
  EXPECT_TRUE(data_changes(manifest, {{"a", 1, "x"}, {"moved", 1, "y"}}, nullptr).empty());
  EXPECT_THAT(data_changes(manifest, {{"a", 1, "z"}, {"b", 1, "y"}}, nullptr),
              ::testing::ElementsAre(::testing::HasSubstr("a has other content")));
  EXPECT_THAT(data_changes(manifest, {{"a", 1, "x"}}, nullptr), ::testing::ElementsAre(::testing::HasSubstr("b was")));
  EXPECT_THAT(data_changes(manifest, {{"b", 1, "y"}, {"a", 1, "x"}}, nullptr),
              ::testing::ElementsAre(::testing::HasSubstr("another order")));
  EXPECT_THAT(data_changes(manifest, {{"c", 1, "w"}, {"a", 1, "x"}, {"b", 1, "y"}}, nullptr),
              ::testing::ElementsAre("c is new among the data"));
  EXPECT_THAT(data_changes(manifest, {{"c", 1, "w"}, {"b", 1, "y"}}, nullptr),
              ::testing::ElementsAre("c is new among the data", ::testing::HasSubstr("a was trained on")));
  EXPECT_EQ(data_changes(manifest, {{"a", 1, "x"}, {"b", 1, "y"}, {"c", 1, "w"}}, nullptr).size(), 1u);
  manifest.data["tokenizer_hash"] = "0123";
  EXPECT_THAT(data_changes(manifest, {{"a", 1, "x"}, {"b", 1, "y"}}, nullptr),
              ::testing::ElementsAre(::testing::HasSubstr("tokenizer")));
  manifest.data.erase("tokenizer_hash");
  const auto with_end = [&](std::optional<uint32_t> end) {
    return data_changes(manifest, {{"a", 1, "x"}, {"b", 1, "y"}}, nullptr, "", end);
  };
  EXPECT_TRUE(with_end(2).empty()) << "a checkpoint of before says nothing";
  manifest.data["end_of_document"] = 2;
  EXPECT_TRUE(with_end(2).empty());
  EXPECT_THAT(with_end(3), ::testing::ElementsAre(::testing::HasSubstr("end-of-document token is 3, it was 2")));
  EXPECT_THAT(with_end({}), ::testing::ElementsAre(::testing::HasSubstr("is none, it was 2")));
  manifest.data["end_of_document"] = nullptr;
  EXPECT_TRUE(with_end({}).empty());
  EXPECT_THAT(with_end(3), ::testing::ElementsAre(::testing::HasSubstr("is 3, it was none")));
}

}  // namespace
}  // namespace carillon::testing
