// Learning-rate schedules against their definitions, one_cycle against PyTorch's OneCycleLR.
#include "model/schedule.h"

#include <gtest/gtest.h>

#include <vector>

namespace carillon {
namespace {

Schedule schedule(ScheduleKind kind, int64_t steps, int64_t warmup, double ratio = 0) {
  Schedule result;
  result.kind = kind;
  result.steps = steps;
  result.warmup_steps = warmup;
  result.min_lr_ratio = ratio;
  return result;
}

TEST(Schedule, WarmsUpLinearlyFromOneStep) {
  for (ScheduleKind kind :
       {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine, ScheduleKind::kWarmupStableDecay}) {
    const Schedule s = schedule(kind, 100, 4);
    EXPECT_EQ(s.factor(0), 0.25);
    EXPECT_EQ(s.factor(3), 1);
    EXPECT_EQ(s.factor(4), 1);
  }
}

TEST(Schedule, CosineAndLinearEndAtTheRatio) {
  const Schedule cosine = schedule(ScheduleKind::kCosine, 10, 2, 0.1);
  EXPECT_NEAR(cosine.factor(6), 0.1 + 0.9 * 0.5, 1e-15);
  EXPECT_NEAR(cosine.factor(10), 0.1, 1e-15);
  const Schedule linear = schedule(ScheduleKind::kLinear, 10, 2, 0.1);
  EXPECT_NEAR(linear.factor(4), 0.1 + 0.9 * 0.75, 1e-15);
  EXPECT_NEAR(linear.factor(10), 0.1, 1e-15);
}

TEST(Schedule, WarmupStableDecayFallsInTheLastTenth) {
  const Schedule s = schedule(ScheduleKind::kWarmupStableDecay, 100, 0, 0.5);
  EXPECT_EQ(s.factor(90), 1);
  EXPECT_NEAR(s.factor(95), 0.75, 1e-15);
}

TEST(Schedule, OneCycleIsPyTorchs) {
  // torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10, pct_start=0.3, div_factor=25, final_div_factor=1e4)
  const std::vector<double> expected = {0.04,
                                        0.52,
                                        1.0,
                                        0.9504846320134737,
                                        0.8117456539497631,
                                        0.6112620219362893,
                                        0.38874197806371075,
                                        0.18825834605023697,
                                        0.049519367986526286,
                                        4e-06};
  const Schedule s = schedule(ScheduleKind::kOneCycle, 10, 3);
  for (size_t k = 0; k < expected.size(); ++k) EXPECT_NEAR(s.factor(static_cast<int64_t>(k)), expected[k], 1e-14) << k;
}

TEST(Schedule, WithoutStepsLeftItStaysAtTheEnd) {
  EXPECT_EQ(schedule(ScheduleKind::kCosine, 2, 2, 0.25).factor(2), 0.25);
}

}  // namespace
}  // namespace carillon
