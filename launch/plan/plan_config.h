// What `carillon plan` takes beside the run: the machine to plan for. The run's keys are those of `train`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/config/run_config.h"
#include "launch/plan/time_plan.h"
#include "launch/session/opened_model.h"
#include "launch/slurm/slurm_script.h"

namespace carillon {

struct PlanSection {
  std::string profile = "auto";           // auto | this | a built-in name | a path
  std::optional<int64_t> nodes;           // 1
  std::optional<int64_t> ranks_per_node;  // the profile's
  std::optional<int64_t> ranks;           // all of them, in place of nodes × ranks a node
  std::optional<int64_t> memory;          // bytes of a rank, in place of the profile's
  std::optional<int64_t> host_memory;     // bytes of a node, in place of the profile's
};

struct PlanConfig {
  RunConfig run;
  PlanSection plan;
  SlurmSection slurm;
  std::string path;                    // the run's file
  std::vector<std::string> overrides;  // without plan.* and slurm.*: what `train` is given too
};

void declare_plan(Schema& schema, PlanConfig& config);
PlanConfig load_plan_config(const std::string& path, const std::vector<std::string>& overrides);

// The machine: profile, nodes, ranks. Errors 64, 65, 66; a notice when nothing was measured here.
PlannedMachine planned_machine(const PlanConfig& config, const Notice& notice);

// The run's geometry and rotation. Of a Hugging Face folder only its config.json is read, of a model file its
// attribute, so that a model can be planned for that does not fit this disk.
ModelConfig planned_model(const RunConfig& config, const Notice& notice);

}  // namespace carillon
