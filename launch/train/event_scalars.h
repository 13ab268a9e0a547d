// The numbers of a step's record and of an evaluation's record that TensorBoard shows.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/train/metrics_file.h"

namespace carillon {

using Scalars = std::vector<std::pair<std::string, double>>;  // tag and value

Scalars scalars_of(const StepMetrics& record);

// Returns eval/TASK/METRIC/LENGTH of a record of evals.jsonl, followed by /ROPE if the rope setting is not the run's
// own.
Scalars scalars_of(const Json& evaluation);

}  // namespace carillon
