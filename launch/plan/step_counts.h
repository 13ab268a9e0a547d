// Counts exactly what one step of a planned rank requires of its device and its links. The rank's network is built on a
// backend that only counts (counting_backend.h), with communicators that count too, and runs one step. The counted code
// is the code that trains. Only the documents are assumed: one per sequence, filling it, with targets everywhere.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "launch/plan/counting_backend.h"
#include "launch/plan/planned_run.h"
#include "launch/plan/step_record.h"

namespace carillon {

struct StepCounts {
  DeviceCounts device;          // of a step after the first, hence without the uploads of indices
  int64_t nccl_operations = 0;  // collectives, sends and receives on tensors in the device's memory
  int64_t nccl_sent_bytes = 0;  // as a ring would send them (tests/cuda_emulation/README.md)
  struct Axis {
    int64_t bytes = 0, calls = 0;
  };
  std::map<std::string, Axis> axes;  // cp, tp, dp_cp: as `communication` in metrics.jsonl, but for this rank only
  int64_t allocated_bytes = 0;       // of the network's one allocation
};

// Counts a step of world rank `rank`. Throws error 64 as Network, and 74 if the process has no addresses left for its
// memory.
StepCounts count_step(const ModelConfig& model, const PlannedRun& run, int rank);

// Records a rank's work in order, for at most three micro-steps: if there are more, the middle ones are alike.
// `beside_compute`: exchanges overlap with products (a device's links), so they are cut into chunks.
StepRecord record_step(const ModelConfig& model, const PlannedRun& run, int rank, bool beside_compute);

// Returns the rank whose record represents all in a plan of time: the first of a zigzag ring, which receives whole
// blocks at every hop; the last of a contiguous ring, whose queries see every block; along the other axes the rank with
// the longest shares.
int recorded_rank(const PlannedRun& run);

}  // namespace carillon
