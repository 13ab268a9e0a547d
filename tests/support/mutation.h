// Tests of the tests (A18): a fault injected by parallel/injected_fault.h must change what the layout tests compare.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "parallel/injected_fault.h"
#include "tests/support/tiny_run.h"

namespace carillon::testing {

// The largest difference in losses, gradient norms, weights and, if both have them, gradients.
inline double difference(const TinyResult& a, const TinyResult& b) {
  double worst = 0;
  for (size_t step = 0; step < a.loss.size(); ++step) {
    worst = std::max(worst, std::abs(a.loss[step] - b.loss[step]));
    worst = std::max(worst, std::abs(a.gradient_norm[step] - b.gradient_norm[step]));
  }
  for (const auto& [name, values] : a.weights)
    for (size_t i = 0; i < values.size(); ++i) worst = std::max(worst, std::abs(values[i] - b.weights.at(name)[i]));
  for (const auto& [name, values] : a.gradients)
    for (size_t i = 0; i < values.size() && b.gradients.contains(name); ++i)
      worst = std::max(worst, std::abs(values[i] - b.gradients.at(name)[i]));
  return worst;
}

// Runs `run` on its own layout and on `grid`. Expects equal results without the fault, and different ones with it.
inline void expect_seen(TinyRun run, const GridShape& grid, InjectedFault mistake) {
  const TinyResult one = run_tiny(run);
  run.grid = grid;
  EXPECT_LT(difference(one, run_tiny(run)), 1e-10) << "unbroken, the layouts agree";
  const ScopedFault broken(mistake);
  EXPECT_GT(difference(one, run_tiny(run)), 1e-6);
}

}  // namespace carillon::testing
