// The gradients of one training step, over all its micro-steps and ranks: what `train` updates with, `verify` compares,
// `plan` counts and the layout tests run.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "model/network.h"

namespace carillon {

// What one step adds up to over all ranks.
struct StepSums {
  double loss = 0;    // Σ weight · emphasis · loss
  double weight = 0;  // Σ weight
  int64_t targets = 0;
  // LongCE only: Σ weight · loss without the emphasis, and Σ weight · emphasis.
  std::optional<double> cross_entropy, emphasis;
};

// `batch(micro)` is what this rank computes with in micro-step `micro` (from 0), good until the next. The gradients are
// undivided sums; the update is network.optimizer().step(sums.weight, …). Collective over the grid.
StepSums accumulate_gradients(Network& network, ProcessGrid& grid, int64_t micro_steps,
                              const std::function<const MicroBatch&(int64_t micro)>& batch);

}  // namespace carillon
