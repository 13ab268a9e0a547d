// The process grid: world = dp × cp × tp ranks; tp varies fastest (its ranks are neighbours on a node), then cp.
//   tp  tensor parallel: splits rows or columns of weights, heads, vocabulary and, between blocks, rows of the residual
//   cp  context parallel: splits the tokens of each sequence (ring attention)
//   dp  data parallel: splits the sequences of a batch
// Weights are the same on all dp × cp ranks of one tp rank: that group (dp_cp) reduces gradients and shares the
// optimizer.
#pragma once

#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

struct GridShape {
  int data = 1;
  int context = 1;
  int tensor = 1;
  int ring_inner = 0;  // context ranks per inner ring of a two-level ring (ring_topology.h); 0: one ring
  int size() const { return data * context * tensor; }
};

// Owns all communicators of a run; destroyed before MPI is finalised. Passed by reference, never global.
struct ProcessGrid {
  GridShape shape;
  int dp_rank = 0;
  int cp_rank = 0;
  int tp_rank = 0;
  std::unique_ptr<Communicator> world;  // all ranks
  std::unique_ptr<Communicator> dp;     // same cp and tp rank
  std::unique_ptr<Communicator> cp;     // same dp and tp rank: the ring
  std::unique_ptr<Communicator> tp;     // same dp and cp rank
  std::unique_ptr<Communicator> dp_cp;  // same tp rank: dp × cp, ordered by dp then cp
  // Ranks of tp that hold the same key/value head if there are fewer heads than ranks; otherwise size 1.
  std::unique_ptr<Communicator> kv_replicas;
};

// Fails with error 64, which names the numbers, if the shape's size is not `ranks`.
void require_ranks(GridShape shape, int ranks);

// Splits the world into the grid's groups. kv_replicas = max(1, tensor / key/value heads). Fails as require_ranks does.
ProcessGrid make_process_grid(std::unique_ptr<Communicator> world, GridShape shape, int kv_replicas = 1);

}  // namespace carillon
