// Compares the points of a sweep with its baseline (`compare.baseline`), and runs that differ only in their seed.
//
// Two kinds of spread are kept apart: over documents, how far the difference between two given sets of weights would
// move on other text; over seeds, how far a result moves when the same training starts from other random numbers.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

// Fails with error 64 if `compare.baseline` is neither a rope setting nor a model of the sweep.
void check_baseline(const SweepConfig& config);

// Returns SWEEP/comparisons.json:
//   baseline      its name
//   comparisons   one per task, length, model, step and rope; baseline_model, baseline_step, baseline_rope; difference
//                 and standard_error (null for one unit) in nats per token, units, unit, tokens; by_position,
//                 past_training: lists of {from, to, difference, standard_error, tokens}; or `refused`: the reason
//   seeds         one per task, length, rope and step for all runs that differ only in train.seed: runs, seeds, metric,
//                 values, mean, standard_error (over seeds, n−1); if they are compared also difference,
//                 difference_standard_error (over seeds) and difference_standard_error_over_documents (of their mean)
// A rope setting is compared at the same model and step. A model is compared at the same rope and, among runs of
// several seeds, with the same seed and a base of the same seed. Points that failed or are not done are left out.
Json compare_points(const SweepConfig& config, const std::vector<SweepPoint>& points,
                    const std::map<std::string, Json>& records);

// Return the comparisons as tables for a terminal, and one line for each pair that could not be compared.
std::string comparison_tables(const Json& comparisons);
std::vector<std::string> comparison_refusals(const Json& comparisons);

}  // namespace carillon
