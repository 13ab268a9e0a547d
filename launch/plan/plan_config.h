// The options of `carillon plan` in addition to the run: the machine to plan for. The run's keys are those of `train`.
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
  std::optional<int64_t> nodes;           // default: 1
  std::optional<int64_t> ranks_per_node;  // default: the profile's
  std::optional<int64_t> ranks;           // total, instead of nodes × ranks per node
  std::optional<int64_t> memory;          // bytes per rank, instead of the profile's
  std::optional<int64_t> host_memory;     // bytes per node, instead of the profile's
};

struct PlanConfig {
  RunConfig run;
  PlanSection plan;
  SlurmSection slurm;
  std::string path;                    // the run's file
  std::vector<std::string> overrides;  // without plan.* and slurm.*: those that `train` is given too
};

void declare_plan(Schema& schema, PlanConfig& config);
PlanConfig load_plan_config(const std::string& path, const std::vector<std::string>& overrides);

// Returns the machine: profile, nodes, ranks. Errors 64, 65, 66. Gives a notice if no profile was measured on this
// machine.
PlannedMachine planned_machine(const PlanConfig& config, const Notice& notice);

// Returns the run's geometry and rotation. Reads only the config.json of a Hugging Face folder and only the attribute
// of a model file, so that a model can be planned for that does not fit on this disk.
ModelConfig planned_model(const RunConfig& config, const Notice& notice);

}  // namespace carillon
