// A run as the planner varies it, on ranks that do not exist: what `carillon train` would be told, and stand-ins for
// the communicators it would have. With them one process lays out any grid, 128 ranks for a 70B model included.
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
  RingChoice ring;                                 // as asked for; what it comes to is in grid
  bool fused_attention = false;                    // cuDNN's, by runtime.attention and what the machine's auto is
  bool background_saves = false;                   // checkpoint.async
  std::optional<LongLossSettings> long_loss = {};  // train.loss longce

  SequenceLayout layout() const { return {network.layout, network.sequence_length, grid.context, grid.tensor}; }
  int64_t rows() const { return network.batch * layout().local(); }  // N, of a rank and micro-step
  int64_t mlp_rows() const {                                         // at a time
    return network.mlp_tile == 0 ? rows() : std::min(network.mlp_tile, rows());
  }
  int64_t sequences() const { return network.batch * accumulation * grid.data; }  // of a step
  int64_t tokens() const { return sequences() * network.sequence_length; }        // of a step, padding not counted
};

// On that machine. Error 64 as ring_inner and positions_of.
PlannedRun planned_run(const RunConfig& config, const ModelRope& rope, GridShape grid, const PlannedMachine& machine);
// The grid with what `ring` comes to there.
GridShape with_ring(GridShape grid, RingChoice ring, int64_t ranks_per_node);

// A communicator that knows its rank and size. Whoever exchanges anything through it gets an InternalError.
std::unique_ptr<Communicator> planned_communicator(std::string name, int rank, int size);

// The grid as world rank `rank` would have it.
ProcessGrid planned_grid(GridShape shape, int rank, int kv_replicas);

// "data 1, context 4, tensor 2, ZeRO 1, recompute selective", and what of offload and MLP tiles there is.
std::string describe(const PlannedRun& run);
std::string name_of(Recompute recompute);
std::string name_of(Offload offload);

}  // namespace carillon
