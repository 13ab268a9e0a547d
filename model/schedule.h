// Learning-rate schedules: the factor on `train.learning_rate` in step k (first step k = 0). All but one_cycle warm up
// linearly over W steps with factor (k+1)/W. After that, with p = (k-W)/(steps-W) and r = min_lr_ratio:
//   constant   1
//   linear     r + (1-r)(1-p)
//   cosine     r + (1-r)(1 + cos πp)/2
//   wsd        1 until the last decay_ratio of the steps, then linear from 1 to r over those
//   one_cycle  PyTorch's OneCycleLR (cosine annealing, pct_start = W/steps, div_factor 25, final_div_factor 1e4), with
//              fixed betas
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace carillon {

enum class ScheduleKind { kConstant, kLinear, kCosine, kWarmupStableDecay, kOneCycle };

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  int64_t steps = 1;
  int64_t warmup_steps = 0;
  double min_lr_ratio = 0;
  double decay_ratio = 0.1;

  double factor(int64_t k) const {
    if (kind == ScheduleKind::kOneCycle) return one_cycle(static_cast<double>(k));
    if (k < warmup_steps) return static_cast<double>(k + 1) / static_cast<double>(warmup_steps);
    const double r = min_lr_ratio;
    const double p = ratio(static_cast<double>(k - warmup_steps), static_cast<double>(steps - warmup_steps));
    switch (kind) {
      case ScheduleKind::kLinear:
        return r + (1 - r) * (1 - p);
      case ScheduleKind::kCosine:
        return r + (1 - r) * (1 + std::cos(std::numbers::pi * p)) / 2;
      case ScheduleKind::kWarmupStableDecay: {
        const double decay_steps = decay_ratio * static_cast<double>(steps);
        const double begin = static_cast<double>(steps) - decay_steps;
        if (static_cast<double>(k) <= begin) return 1;
        return r + (1 - r) * (1 - ratio(static_cast<double>(k) - begin, decay_steps));
      }
      default:
        return 1;
    }
  }

 private:
  static double ratio(double part, double whole) { return whole > 0 ? std::min(1.0, part / whole) : 1.0; }

  double one_cycle(double k) const {
    constexpr double kInitial = 1.0 / 25;
    constexpr double kFinal = kInitial / 1e4;
    auto anneal = [](double from, double to, double p) {
      return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * p));
    };
    const double peak = static_cast<double>(warmup_steps) - 1;
    if (k <= peak) return anneal(kInitial, 1, ratio(k, peak));
    return anneal(1, kFinal, ratio(k - peak, static_cast<double>(steps) - 1 - peak));
  }
};

}  // namespace carillon
