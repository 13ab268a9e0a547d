// A whole plan and its presentation: as text for the user, as one JSON object for programs.
//
// The object's keys:
//   model         parameters, product_parameters (those in products), layers
//   machine       profile, processor, device, nodes, ranks_per_node, ranks, threads, memory_bytes (of a rank),
//                 usable_bytes (what a plan may fill), memory_bytes_per_second, peak_flops_per_second (of the run's
//                 dtype; null: not known)
//   layout        data, context, tensor, ring_inner (null: a flat ring), zero, recompute, offload, mlp_tile (null: all
//                 rows), kind (zigzag | contiguous), dtype, sequence_length, tokens_per_rank, micro_batch_size,
//                 gradient_accumulation_steps, sequences_per_step, tokens_per_step; null if the ranks cannot be laid
//                 out
//   memory        peak_bytes, allocated_bytes (the run's one allocation), host_bytes (of a rank), host_by_role,
//                 host_node_bytes (all ranks of a node), by_role {role: bytes}, tensors {name: bytes},
//                 groups [{name, ranks, peak_bytes, host_bytes, by_role}], longest_sequence (tokens, 0: none)
//   time          seconds, terms {name: seconds}, limiting, tokens_per_second, tokens_per_day, useful_flops,
//                 hardware_flops (per step, all ranks), product_rate, product_rate_fraction, peak_rate, mfu (null: no
//                 peak is known), assumptions [text], offload {checkpoint_bytes, state_bytes (one way), checkpoints
//                 (seconds one way, without overlap), beside (of the compute that hides them), exposed (both ways, not
//                 hidden)}, attention {forward, backward: native, cudnn, both, or empty on a CPU}, tensor {chunks (of a
//                 gather or scatter over tensor ranks), exchanges, exposed (seconds per micro-step)}, gradients
//                 {reduction (total, without overlap), exposed (of that, in the step)}, ring {forward, backward:
//                 {compute, hops, exposed, tokens_to_hide, tokens_to_hide_two_level, bytes}} (one pass of one layer,
//                 the mean; bytes sent or received by the rank that was recorded)
//   counts        [{rank, ops {op: calls}, work {op and shape: {calls, flop, bytes}}, launches (kernels), products
//                 (cuBLASLt's), allocations, to_device_bytes, to_host_bytes, nccl_operations, nccl_sent_bytes,
//                 communication {axis: {bytes, calls}}}]: exact, for a step after the first; of every rank in a run of
//                 at most 8, otherwise of rank 0; [] for a layout that cannot run. launches to nccl_sent_bytes are null
//                 if the machine has no device.
//   limits        [{name, fatal, text, remedies [{change, peak_bytes, host_bytes, fits}]}]
//   layouts       [{data, context, tensor, zero, recompute, offload, gradient_accumulation_steps, peak_bytes,
//                 host_bytes, seconds, tokens_per_second, product_rate_fraction, mfu, limiting, command, sbatch}],
//                 fastest first, at most five
//   search        tried, impossible, too_large
//   runs          whether the configured layout can run
// memory and time are null if the layout is impossible.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "launch/plan/layout_search.h"
#include "launch/plan/plan_config.h"
#include "launch/plan/plan_limits.h"
#include "launch/plan/step_counts.h"
#include "launch/plan/useful_work.h"

namespace carillon {

inline constexpr int kCountedRanks = 8;

struct Plan {
  ModelConfig model;
  PlannedMachine machine;
  std::optional<PlannedRun> run;  // empty: the layout is impossible
  std::vector<RankGroup> groups;  // fullest first
  int64_t longest = 0;            // tokens that fit
  std::optional<StepTime> time;
  std::vector<StepCounts> counts;  // of ranks 0, 1 … : of all in a run of at most kCountedRanks, otherwise of rank 0
  std::vector<Limit> limits;
  LayoutSearch search;

  const Limit* fatal() const;  // the first fatal limit; null: the run is possible
};

Plan make_plan(const PlanConfig& config, const Notice& notice);

// Returns all assumptions behind the times: the program's own first, then the profile's figures, then what it lacks.
// The plan's layout must be possible.
std::vector<std::string> assumptions_of(const Plan& plan);
inline int64_t ranks_of_a_node(const PlannedMachine& machine) {
  return std::min(machine.ranks_per_node, machine.ranks());
}

// Returns `mpirun -n N carillon train …` with the layout's keys after the user's own.
std::string launch_line(const PlanConfig& config, const PlannedMachine& machine, const PlannedRun& run);
std::string sbatch_script(const PlanConfig& config, const PlannedMachine& machine, const PlannedRun& run);

std::string plan_text(const PlanConfig& config, const Plan& plan);
Json plan_json(const PlanConfig& config, const Plan& plan);

}  // namespace carillon
