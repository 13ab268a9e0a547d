// The configuration of `carillon sweep`: models × rope settings × lengths × tasks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/config/run_config.h"

namespace carillon {

struct SweepConfig {
  std::vector<std::string> models;        // as written
  std::optional<std::string> adapter;     // applied to each of them
  Json checkpoints = "all";               // all | newest | list of steps
  Json rope = {{"own", Json::object()}};  // name -> settings merged over the model's own
  std::vector<int64_t> lengths;
  Json tasks = Json::array();  // each an object with `task`, its own keys, and a `name`
  DataSection data;            // validation: what a task without `data` reads; tokenizer
  ParallelSection parallel;
  RuntimeSection runtime;
  std::optional<std::string> baseline;  // compare.baseline: a rope setting or a model; absent: the first (see
                                        // sweep_comparisons.h)
  bool watch = false;                   // whether to wait for checkpoints of runs that have not ended
  double watch_patience = 1800;         // seconds a run that does not move is waited for
  std::string output;
  bool overwrite = false;
  std::string read_from;  // the configuration file; empty where it was none
};

void declare_sweep(Schema& schema, SweepConfig& config);
// Loads the file and overrides, then checks what involves several keys: every task's keys, unique names. Errors 64, 66.
SweepConfig load_sweep_config(const std::string& path, const std::vector<std::string>& overrides);

// Gives every task its defaults and a name. Fails with error 64 naming what is wrong with one.
void resolve_tasks(SweepConfig& config);
// Returns what a run evaluates during training: `eval`, with the run's own data, layout and type.
SweepConfig training_sweep(const RunConfig& run);

// One model × rope × length × task.
struct SweepPoint {
  std::string id;     // 16 hexadecimal digits from model, step, rope settings, length and task, but not output
  std::string model;  // the entry as written
  std::optional<int64_t> step;
  std::string path;  // what is read
  std::string rope_name;
  Json rope;
  int64_t length = 0;
  Json task;
  // Hashes of the model and of what else the task reads (point_inputs.h), empty until they are computed. A run that was
  // trained anew under the same name has the same points with another model.
  std::string model_hash, inputs_hash;
};

Json to_json(const SweepPoint& point);
SweepPoint sweep_point_of(const Json& json);

// Returns all points, with the costliest change outermost: model, then rope, length, task. A run's folder stands for
// its current checkpoints. Fails with error 66 for a missing model; with `watch` such a model has no points yet.
std::vector<SweepPoint> sweep_points(const SweepConfig& config);

// Whether `model` is, or may become, a run's folder: it has checkpoints, or it is a folder that is neither a checkpoint
// nor a Hugging Face model.
bool may_be_run_folder(const std::string& model);

}  // namespace carillon
