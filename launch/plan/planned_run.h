// A run as the planner varies it, on ranks that do not exist: the settings of `carillon train`, and stand-ins for its
// communicators. With them one process can lay out any grid, for example 128 ranks for a 70B model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "launch/config/run_config.h"
#include "launch/plan/planned_machine.h"
#include "model/config.h"
#include "model/network.h"
#include "parallel/context/ring_topology.h"
#include "parallel/process_grid.h"

namespace carillon {

struct PlannedRun {
  GridShape grid;
  NetworkOptions network;  // batch, length, recompute, ZeRO stage …
  int64_t accumulation = 1;
  RingChoice ring;                                 // as requested; the resolved one is in grid
  bool fused_attention = false;                    // cuDNN's, by runtime.attention and the machine's default for auto
  bool background_saves = false;                   // checkpoint.async
  std::optional<LongLossSettings> long_loss = {};  // train.loss longce

  SequenceLayout layout() const { return {network.layout, network.sequence_length, grid.context, grid.tensor}; }
  int64_t rows() const { return network.batch * layout().local(); }  // N, of a rank per micro-step
  int64_t mlp_rows() const {                                         // processed at once
    return network.mlp_tile == 0 ? rows() : std::min(network.mlp_tile, rows());
  }
  int64_t sequences() const { return network.batch * accumulation * grid.data; }  // per step
  int64_t tokens() const { return sequences() * network.sequence_length; }        // per step, without padding
};

// Resolves the run for that machine. Throws error 64 as ring_inner and positions_of.
PlannedRun planned_run(const RunConfig& config, const ModelRope& rope, GridShape grid, const PlannedMachine& machine);
// Returns the grid with `ring` resolved for it.
GridShape with_ring(GridShape grid, RingChoice ring, int64_t ranks_per_node);

// A communicator that has a rank and a size. An exchange through it throws InternalError.
std::unique_ptr<Communicator> planned_communicator(std::string name, int rank, int size);

// Returns the grid as world rank `rank` would have it.
ProcessGrid planned_grid(GridShape shape, int rank, int kv_replicas);

// "data 1, context 4, tensor 2, ZeRO 1, recompute selective", and offload and MLP tiles if there are any.
std::string describe(const PlannedRun& run);
std::string name_of(Recompute recompute);
std::string name_of(Offload offload);

}  // namespace carillon
