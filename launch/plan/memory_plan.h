// Exact memory of every rank of a planned run: the code that allocates a run's memory is run with an arena that only
// counts (Network::measure). A rank's other memory is estimated and listed by name: the backend's scratch, the host's
// staging of batches, MPI's reduction buffers, the libraries.
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
  // rotation, gaps (alignment), evaluation. Then memory outside the one allocation: backend scratch, host staging,
  // communication, start (what starting needs in excess of those), checkpoint copy (checkpoint.async), libraries. The
  // sum is `total`.
  std::vector<std::pair<std::string, int64_t>> roles;
  std::vector<std::pair<std::string, int64_t>> tensors;  // of the one allocation by full name, largest first
  int64_t allocated = 0;                                 // Network::bytes()
  int64_t total = 0;                                     // on the device; on a CPU that of the whole process
  // Host memory of the rank; on a CPU only what is offloaded, because the rest is in `total`.
  int64_t host = 0;
  // Its parts: checkpoints, optimizer (offloaded), checkpoint copy, staging of batches, start. The sum is `host`.
  std::vector<std::pair<std::string, int64_t>> host_roles;

  int64_t of(const std::string& role) const;
};

// Ranks with the same memory.
struct RankGroup {
  std::vector<int> ranks;  // world ranks, increasing
  std::string name;        // "all ranks", "tensor 0, shards 0-3"
  RankMemory memory;
};

class MemoryPlan {
 public:
  // `model` and `machine` must outlive this object. `evaluation_length`: the longest evaluation during training, 0 for
  // none. `random_weights`: weights are initialised randomly rather than loaded.
  MemoryPlan(const ModelConfig& model, const MachineProfile& machine, int threads, int64_t evaluation_length = 0,
             bool random_weights = true);
  ~MemoryPlan();

  // Throws error 64 if the layout is impossible (heads, sequence too short).
  RankMemory rank(const PlannedRun& run, int rank) const;
  // Returns the memory of the fullest rank, which is rank 0 because its shares are the longer ones.
  int64_t peak(const PlannedRun& run) const { return rank(run, 0).total; }
  std::vector<RankGroup> groups(const PlannedRun& run) const;

  // Returns the longest sequence, a multiple of 2·context·tensor, whose peak is within `bytes` and whose host memory is
  // within `host_bytes`; 0 if there is none.
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
