// Hashes of what an evaluation point reads, by which a sweep notices that a model or a data file was replaced under its
// old name: the point's record was then made from something else, and the point is evaluated again.
#pragma once

#include <string>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

// Sets `model_hash` and `inputs_hash` of the points, each to 16 hexadecimal digits, or leaves it empty if a file cannot
// be read at the moment (a watched run may remove a checkpoint while it is hashed). Not collective: rank 0 decides what
// a sweep evaluates.
//   model_hash    the model, with the sweep's adapter. A checkpoint is identified by its manifest, which has a hash of
//                 every tensor. Of other models the files with weights, configuration and tokenizer are hashed, of a
//                 long file only blocks spread evenly over it: training changes every block, and reading all of a large
//                 model would take minutes.
//   inputs_hash   what else decides a task's result and is not among the task's own keys: every byte of its data, the
//                 chat template, data.train_on, LongPPL's evaluator and the type that is computed in
void identify_inputs(std::vector<SweepPoint>& points, const SweepConfig& config);

}  // namespace carillon
