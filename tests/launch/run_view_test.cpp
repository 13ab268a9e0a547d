// The terminal output of `carillon watch`.
#include "launch/report/run_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace carillon::testing {
namespace {

using ::testing::HasSubstr;

TEST(RunView, ASparklineSpansLeastToLargest) {
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 80), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline({7, 7, 0, 0}, 2), "█▁") << "means of stretches";
  EXPECT_EQ(sparkline({3, NAN, 5}, 80), "▁ █");
  EXPECT_EQ(sparkline({3, 3}, 80), "▁▁");
  EXPECT_EQ(sparkline({}, 80), "");
  EXPECT_EQ(sparkline({1, 2}, 0), "");
}

RunView view_of(int steps) {
  RunView view;
  view.folder = "runs/x";
  for (int i = 1; i <= steps; ++i)
    view.steps.push_back({{"step", i},
                          {"loss", 4.0 / i},
                          {"seconds", 2.0},
                          {"tokens_per_second", 512.0},
                          {"tokens_total", 1024 * i},
                          {"peak_memory_bytes", 300 << 20},
                          {"max_steps", 100},
                          {"tokens_by_source", {{"chat", 768}, {"code", 256}}}});
  view.steps.front()["memory_by_rank"] = {100 << 20, 300 << 20};
  view.evaluations.push_back(
      {{"step", 3}, {"task", "perplexity"}, {"rope_name", "own"}, {"length", 64}, {"metrics", {{"loss", 1.5}}}});
  return view;
}

TEST(RunView, SaysWhereARunStands) {
  const std::vector<std::string> lines = lines_of(view_of(10), 100);
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_THAT(lines[0], ::testing::AllOf(HasSubstr("runs/x"), HasSubstr("step 10/100"), HasSubstr("3m 00s left")));
  EXPECT_THAT(lines[1], ::testing::AllOf(HasSubstr("loss 0.4000"), HasSubstr("█"), HasSubstr("▁")));
  EXPECT_THAT(lines[2], HasSubstr("512 tok/s"));
  EXPECT_THAT(lines[3], HasSubstr("chat 75.0%  code 25.0%"));
  EXPECT_THAT(lines[4], HasSubstr("0: 100 MiB  1: 300 MiB"));
  EXPECT_THAT(lines[5], ::testing::AllOf(HasSubstr("after step 3"), HasSubstr("loss 1.5")));
  RunView view = view_of(10);
  view.state = RunState::kFailed;
  view.detail = "exit code 76";
  EXPECT_THAT(lines_of(view, 100)[0],
              ::testing::AllOf(HasSubstr("failed: exit code 76"), ::testing::Not(HasSubstr("left"))));
  view.steps.clear();
  EXPECT_EQ(lines_of(view, 100).size(), 2u);
}

TEST(RunView, NoLineWrapsAndNoneForgesAnother) {
  RunView view = view_of(500);
  view.folder = "runs/\x1b[2J\nforged";
  view.evaluations[0]["task"] = "a\nb";
  for (const size_t width : {1, 7, 40, 200})
    for (const std::string& line : lines_of(view, width)) {
      EXPECT_EQ(line.find_first_of("\n\x1b"), std::string::npos);
      EXPECT_LE(std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xC0) != 0x80; }),
                static_cast<long>(width));
    }
}

}  // namespace
}  // namespace carillon::testing
