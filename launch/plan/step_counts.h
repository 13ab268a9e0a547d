// What one step of a planned rank asks of its device and its links, exactly: the network of that rank is built on a
// backend that only counts (counting_backend.h), its communicators count too, and a step of it is run. The code that
// trains is the code that is counted; only the documents are assumed: one to a sequence, from its first to its last
// token, all of it with targets.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "launch/plan/counting_backend.h"
#include "launch/plan/planned_run.h"
#include "launch/plan/step_record.h"

namespace carillon {

struct StepCounts {
  DeviceCounts device;          // of a step after the first, whose uploads of indices are not in it
  int64_t nccl_operations = 0;  // collectives, sends and receives on tensors in the device's memory
  int64_t nccl_sent_bytes = 0;  // as a ring would send them (tests/cuda_emulation/README.md)
  struct Axis {
    int64_t bytes = 0, calls = 0;
  };
  std::map<std::string, Axis> axes;  // cp, tp, dp_cp: as metrics.jsonl's `communication`, but of this rank alone
  int64_t allocated_bytes = 0;       // of the network's one piece
};

// Of world rank `rank`. Errors 64 as Network's; 74 where the process has no addresses left for its memory.
StepCounts count_step(const ModelConfig& model, const PlannedRun& run, int rank);

// The same rank's work in its order, of at most three micro-steps: where there are more, those in the middle are alike.
// `beside_compute`: exchanges travel beside products (a device's links), so that they are cut into chunks.
StepRecord record_step(const ModelConfig& model, const PlannedRun& run, int rank, bool beside_compute);

// The rank whose record stands for all in a plan of time: of a zigzag ring the first, to which whole blocks come at
// every hop, of a contiguous one the last, whose queries see every block; of the others the one with the longest
// shares.
int recorded_rank(const PlannedRun& run);

}  // namespace carillon
