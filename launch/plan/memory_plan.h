// Exact memory of every rank of a planned run: the code that allocates a run's memory allocates it here, into an arena
// that only counts (Network::measure). What a rank takes beside that piece is estimated and named: the backend's own
// scratch, the host's staging of batches, MPI's reduction buffers, the libraries.
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/machine/machine_profile.h"
#include "launch/plan/planned_run.h"

namespace carillon {

struct RankMemory {
  // By role, in the order of a step: weights, gradients, optimizer, activations, work, attention, loss, batch,
  // rotation, gaps (alignment), evaluation; then what is not allocated: backend scratch, host staging, communication,
  // start (what starting takes beyond those), checkpoint copy (checkpoint.async), libraries. They add up to `total`.
  std::vector<std::pair<std::string, int64_t>> roles;
  std::vector<std::pair<std::string, int64_t>> tensors;  // of the one piece by full name, largest first
  int64_t allocated = 0;                                 // Network::bytes()
  int64_t total = 0;                                     // on the device; on a CPU of the whole process
  // Host memory of the rank; on a CPU what is offloaded only, the rest is in `total`.
  int64_t host = 0;
  // What it goes to: checkpoints, optimizer (offloaded), checkpoint copy, staging of batches, start. They add up to
  // `host`.
  std::vector<std::pair<std::string, int64_t>> host_roles;

  int64_t of(const std::string& role) const;
};

// Ranks whose memory is the same.
struct RankGroup {
  std::vector<int> ranks;  // world ranks, increasing
  std::string name;        // "all ranks", "tensor 0, shards 0-3"
  RankMemory memory;
};

class MemoryPlan {
 public:
  // `model` and `machine` must outlive it. `evaluation_length`: the longest evaluation beside training, 0 for none.
  // `random_weights`: drawn, not read.
  MemoryPlan(const ModelConfig& model, const MachineProfile& machine, int threads, int64_t evaluation_length = 0,
             bool random_weights = true);
  ~MemoryPlan();

  // Error 64 when the layout cannot be (heads, sequence too short).
  RankMemory rank(const PlannedRun& run, int rank) const;
  // Of the fullest rank, which is rank 0: its shares are the longer ones.
  int64_t peak(const PlannedRun& run) const { return rank(run, 0).total; }
  std::vector<RankGroup> groups(const PlannedRun& run) const;

  // The longest sequence, a multiple of 2·context·tensor, whose peak is within `bytes` and whose host memory within
  // `host_bytes`; 0 when none is.
  int64_t longest_sequence(const PlannedRun& run, int64_t bytes,
                           int64_t host_bytes = std::numeric_limits<int64_t>::max()) const;

 private:
  const ModelConfig& model_;
  const MachineProfile& machine_;
  int threads_;
  int64_t evaluation_length_;
  bool random_weights_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace carillon
