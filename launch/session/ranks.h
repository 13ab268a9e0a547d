// The process grid of a configuration, and this rank's share of the machine.
#pragma once

#include "launch/session/opened_model.h"
#include "parallel/process_grid.h"
#include "parallel/transport/node_map.h"
#include "runtime/backend.h"

namespace carillon {

// Resolves parallel.* for a world of `ranks`. Fails with error 64 naming the numbers if they do not fit.
GridShape grid_shape(const ParallelSection& parallel, int ranks);

// Makes the grid for `model`. Its axes carry tensors of `backend`, which must outlive it. Collective. Fails with error
// 64 if parallel.tensor does not divide the model's heads. Gives one notice if a device's tensors must go through host
// memory.
ProcessGrid make_grid(Backend& backend, std::unique_ptr<Communicator> world, const NodeMap& nodes,
                      const ParallelSection& parallel, const ModelConfig& model, const Notice& notice);

// Returns a group that carries tensors of `backend`: `group` itself if the host can read them. Collective over the
// group.
std::unique_ptr<Communicator> carry_tensors(Backend& backend, std::unique_ptr<Communicator> group);

// Makes the backend of runtime.* on this rank's device of its node. Gives one notice for each request that the machine
// cannot meet, such as bfloat16 without hardware support, and for idle processors. Collective: if one rank has no
// device, every rank fails with error 64. `model`: attention is prepared for its heads; null if they are not known yet.
// runtime.attention auto means the native kernels unless `trains`: they accept any sequence length, whereas cuDNN needs
// seconds of preparation for each.
std::unique_ptr<Backend> make_backend(Communicator& world, const NodeMap& nodes, const RuntimeSection& runtime,
                                      const Notice& notice, const ModelConfig* model = nullptr, bool trains = false);

}  // namespace carillon
