// The gradients of one training step, over all its micro-steps and ranks. `train` updates with them, `verify` compares
// them, `plan` counts their operations, and the layout tests run them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "model/network.h"

namespace carillon {

// Sums of one step over all ranks.
struct StepSums {
  double loss = 0;    // Σ weight · emphasis · loss
  double weight = 0;  // Σ weight
  int64_t targets = 0;
  // LongCE only: Σ weight · loss without the emphasis, and Σ weight · emphasis.
  std::optional<double> cross_entropy, emphasis;
};

// Accumulates the gradients of one step. `batch(micro)` returns this rank's micro-batch for micro-step `micro` (from
// 0); it must stay valid until the next call. The gradients are undivided sums; the update is
// network.optimizer().step(sums.weight, …). Collective over the grid.
StepSums accumulate_gradients(Network& network, ProcessGrid& grid, int64_t micro_steps,
                              const std::function<const MicroBatch&(int64_t micro)>& batch);

}  // namespace carillon
