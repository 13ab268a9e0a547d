// What `carillon sweep` is told: models × rope settings × lengths × tasks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/config/run_config.h"

namespace carillon {

struct SweepConfig {
  std::vector<std::string> models;        // as written
  std::optional<std::string> adapter;     // beside each of them
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
// File, overrides, then what no single key can know: every task's keys, unique names. Errors 64 and 66.
SweepConfig load_sweep_config(const std::string& path, const std::vector<std::string>& overrides);

// Gives every task its defaults and a name. Error 64 naming what is wrong with one.
void resolve_tasks(SweepConfig& config);
// What a run evaluates while it trains: `eval`, with the run's own data, layout and type.
SweepConfig training_sweep(const RunConfig& run);

// One model × rope × length × task.
struct SweepPoint {
  std::string id;     // 16 hexadecimal digits of model, step, rope settings, length and task; not of the output
  std::string model;  // the entry as written
  std::optional<int64_t> step;
  std::string path;  // what is read
  std::string rope_name;
  Json rope;
  int64_t length = 0;
  Json task;
};

Json to_json(const SweepPoint& point);
SweepPoint sweep_point_of(const Json& json);

// All points, the heaviest change outermost: model, then rope, length, task. A run's folder stands for its checkpoints
// (those that are there now). Errors 66 for a model that is not there; with `watch` it has no points yet.
std::vector<SweepPoint> sweep_points(const SweepConfig& config);

// Whether `model` is the folder of a run, as far as it has come: it has checkpoints, or it is a folder that is nothing
// else (neither a checkpoint nor a Hugging Face model).
bool may_be_run_folder(const std::string& model);

}  // namespace carillon
