// How many ranks do what: the process grid of a configuration, and this rank's share of the machine.
#pragma once

#include "launch/session/opened_model.h"
#include "parallel/process_grid.h"
#include "parallel/transport/node_map.h"
#include "runtime/backend.h"

namespace carillon {

// parallel.* for a world of `ranks`. Error 64 naming the numbers when they do not fit.
GridShape grid_shape(const ParallelSection& parallel, int ranks);

// The grid for `model`, its axes carrying tensors of `backend`, which outlives it. Collective. Error 64 when the
// model's heads do not divide over parallel.tensor. Gives notice, once, when a device's tensors must go through host
// memory.
ProcessGrid make_grid(Backend& backend, std::unique_ptr<Communicator> world, const NodeMap& nodes,
                      const ParallelSection& parallel, const ModelConfig& model, const Notice& notice);

// A group that carries tensors of `backend`: `group` itself where the host can read them. Collective over the group.
std::unique_ptr<Communicator> carry_tensors(Backend& backend, std::unique_ptr<Communicator> group);

// runtime.*, on the device that is this rank's on its node; gives notice, once, of what the machine cannot do as asked:
// bfloat16 without hardware for it, idle processors. Collective: a rank without a device is error 64 on every rank.
// `model`: whose heads attention has; absent where they are not known yet. runtime.attention: auto is the native
// kernels unless it `trains`: they take sequences of every length, whereas cuDNN prepares itself for each, for seconds.
std::unique_ptr<Backend> make_backend(Communicator& world, const NodeMap& nodes, const RuntimeSection& runtime,
                                      const Notice& notice, const ModelConfig* model = nullptr, bool trains = false);

}  // namespace carillon
