// The points of a sweep compared with its baseline (`compare.baseline`), and runs that differ in their seed alone.
//
// Two things spread, and are told apart: over documents, how far one difference between two sets of weights would move
// with other text; over seeds, how far a result moves when the same training is begun with other random numbers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

// Error 64 when `compare.baseline` is neither a rope setting nor a model of the sweep.
void check_baseline(const SweepConfig& config);

// For SWEEP/comparisons.json:
//   baseline      its name
//   comparisons   a task, length, model, step, rope each; baseline_model, baseline_step, baseline_rope; difference and
//                 standard_error (null of one unit) in nats a token, units, unit, tokens; by_position, past_training:
//                 lists of {from, to, difference, standard_error, tokens}; or `refused`: why there is none
//   seeds         a task, length, rope and step for all runs that differ only in train.seed: runs, seeds, metric,
//                 values, mean, standard_error (over seeds, n−1); where they are compared also difference,
//                 difference_standard_error (over seeds) and difference_standard_error_over_documents (of their mean)
// A rope setting's partner has the same model and step; a model's the same rope and, among runs of several seeds, the
// same seed, and base of the same seed. Points that failed or are not done are left out.
Json compare_points(const SweepConfig& config, const std::vector<SweepPoint>& points,
                    const std::map<std::string, Json>& records);

// The same as tables for a terminal; and a line for each pair that could not be compared.
std::string comparison_tables(const Json& comparisons);
std::vector<std::string> comparison_refusals(const Json& comparisons);

}  // namespace carillon
