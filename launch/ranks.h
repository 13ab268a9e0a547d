// How many ranks do what: the process grid of a configuration, and this rank's share of the machine.
#pragma once

#include "launch/opened_model.h"
#include "launch/run_config.h"
#include "parallel/process_grid.h"
#include "runtime/backend.h"

namespace carillon {

// parallel.* for a world of `ranks`. Error 64 naming the numbers when they do not fit.
GridShape grid_shape(const ParallelSection& parallel, int ranks);

// The grid for `model`. Error 64 when its heads do not divide over parallel.tensor.
ProcessGrid make_grid(std::unique_ptr<Communicator> world, const ParallelSection& parallel, const ModelConfig& model);

// runtime.*; says aloud, once, what the machine cannot do as asked: bfloat16 without hardware for it, idle processors.
std::unique_ptr<Backend> make_backend(const RuntimeSection& runtime, const Notice& notice);

}  // namespace carillon
