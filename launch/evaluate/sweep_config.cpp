#include "launch/evaluate/sweep_config.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tensor_hash.h"
#include "launch/config/rope_settings.h"
#include "launch/evaluate/sweep_comparisons.h"
#include "launch/evaluate/tasks/task.h"
#include "runtime/text.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr double kMostWindowTokens = 4294967296.0;  // 2^32: anything larger is a typing error

// Returns the task with its defaults. Fails with error 64 naming what is wrong.
Json resolve_task(const Json& given) {
  if (!given.is_object() || !given.contains("task") || !given["task"].is_string())
    fail(ExitCode::kUsage, "a task is {}, in tasks, write {{task: perplexity, …}}", given.dump());
  const std::string type = given["task"].get<std::string>();
  const auto found = task_kinds().find(type);
  if (found == task_kinds().end()) {
    std::vector<std::string> names;
    for (const auto& [name, kind] : task_kinds()) names.push_back(name);
    fail(ExitCode::kUsage, "there is no task {}, in tasks, did you mean {}? There are {}", printable(type),
         nearest(type, names), join(names));
  }
  const Json& known = found->second.keys;
  const Json name = given.value("name", Json(type));
  if (!name.is_string() || name.get<std::string>().empty())
    fail(ExitCode::kUsage, "name of task {} is {}, in tasks, give a word (in quotes if it is a number)", type,
         name.dump());
  Json task = {{"task", type}, {"name", name}};
  std::vector<std::string> keys;
  for (const auto& [key, value] : known.items()) {
    keys.push_back(key);
    task[key] = value;
  }
  for (const auto& [key, value] : given.items()) {
    if (key == "task" || key == "name") continue;
    if (!known.contains(key))
      fail(ExitCode::kUsage, "task {} has no key {}, in tasks, did you mean {}?", type, printable(key),
           nearest(key, keys));
    const Json& otherwise = known[key];
    const bool fits = otherwise.is_null() || (otherwise.is_string() && value.is_string()) ||
                      (otherwise.is_boolean() && value.is_boolean()) ||
                      (otherwise.is_number_float() && value.is_number()) ||
                      (otherwise.is_number_integer() && value.is_number_integer());
    if (!fits)
      fail(ExitCode::kUsage, "{} of task {} is {}, in tasks, give {}", key, type, value.dump(),
           otherwise.is_string()         ? "a word"
           : otherwise.is_boolean()      ? "true or false"
           : otherwise.is_number_float() ? "a number"
                                         : "a whole number");
    // A larger count is a typing error and would overflow when multiplied.
    if (value.is_number_integer() && key != "seed" && (value > INT32_MAX || value < -INT32_MAX))
      fail(ExitCode::kUsage, "{} of task {} is {}, in tasks, {} is the most", key, type, value.dump(), INT32_MAX);
    task[key] = value;
  }
  return task;
}

// A point that is listed twice would count twice in every mean and standard error.
template <typename Value>
void refuse_repeated(const char* key, const std::vector<Value>& values) {
  std::set<Value> seen;
  for (const Value& value : values)
    if (!seen.insert(value).second) {
      if constexpr (std::is_same_v<Value, std::string>)
        fail(ExitCode::kUsage, "{} is given twice, in {}, keep one of them", printable(value), key);
      else
        fail(ExitCode::kUsage, "{} is given twice, in {}, keep one of them", value, key);
    }
}

std::vector<CheckpointFolder> chosen(const SweepConfig& config, const std::string& model) {
  std::vector<CheckpointFolder> all = list_checkpoints(model + "/checkpoints");
  if (all.empty() && config.watch) return {};
  if (all.empty()) fail(ExitCode::kMissingInput, "there is no checkpoint, {}, train first", model);
  if (config.checkpoints == "newest") all.resize(1);
  std::reverse(all.begin(), all.end());
  if (!config.checkpoints.is_array()) return all;
  std::vector<CheckpointFolder> some;
  for (const Json& step : config.checkpoints) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& c) { return step == c.step; });
    if (found == all.end() && config.watch) continue;
    if (found == all.end())
      fail(ExitCode::kMissingInput, "there is no checkpoint of step {}, {}, correct checkpoints", step.dump(), model);
    some.push_back(*found);
  }
  return some;
}

}  // namespace

void declare_sweep(Schema& schema, SweepConfig& config) {
  schema.section("", "What is evaluated.");
  const auto list = [](const char* what, const YamlNode& node) {
    const Json json = detail::free_json(node);
    if (!json.is_array() || json.empty())
      fail(ExitCode::kUsage, "{} {}, {}, write [a, b]", what, json.is_array() ? "is empty" : "is not a list",
           node.where);
    return json;
  };
  schema
      .custom(
          "models", "list", "Model files, checkpoints, run folders, Hugging Face or PEFT folders.",
          [&config, list](const YamlNode& node) {
            config.models.clear();
            for (const Json& entry : list("models", node))
              config.models.push_back(entry.is_string() ? entry.get<std::string>() : entry.dump());
          },
          [&config] { return std::optional<Json>(config.models); })
      .required();
  declare_adapter_path(schema, config.adapter);
  schema.custom(
      "checkpoints", "all | newest | list of steps", "Which checkpoints of each run.",
      [&config](const YamlNode& node) {
        config.checkpoints = detail::free_json(node);
        const bool word = config.checkpoints == "all" || config.checkpoints == "newest";
        const bool steps = config.checkpoints.is_array() && !config.checkpoints.empty() &&
                           std::all_of(config.checkpoints.begin(), config.checkpoints.end(),
                                       [](const Json& step) { return step.is_number_integer() && step >= 0; });
        if (!word && !steps)
          fail(ExitCode::kUsage,
               "checkpoints cannot be {}, {}, it takes all, newest or a list of steps such as [100, 200]",
               node.describe(), node.where);
        if (steps) refuse_repeated("checkpoints", config.checkpoints.get<std::vector<int64_t>>());
      },
      [&config] { return std::optional<Json>(config.checkpoints); });
  schema.custom(
      "rope", "mapping", "Named settings, merged over the model's own.",
      [&config](const YamlNode& node) {
        config.rope = read_rope_settings("rope", node);
        if (config.rope.empty())
          fail(ExitCode::kUsage, "rope names no settings, {}, write {{own: {{}}, name: {{type: …}}}}", node.where);
      },
      [&config] { return std::optional<Json>(config.rope); });
  schema
      .custom(
          "lengths", "list of integers", "Window lengths in tokens; 4k means 4096.",
          [&config](const YamlNode& node) {
            config.lengths.clear();
            Key key;
            key.name = "lengths";
            key.type = "integer";
            if (node.kind != YamlNode::Kind::kSequence || node.items.empty())
              fail(ExitCode::kUsage, "lengths {}, {}, write [4k, 8k]",
                   node.kind == YamlNode::Kind::kSequence ? "is empty" : "is not a list", node.where);
            key.at_least(2).at_most(kMostWindowTokens);
            for (const YamlNode& item : node.items) config.lengths.push_back(detail::read_integer(key, item));
          },
          [&config] { return std::optional<Json>(config.lengths); })
      .required();
  schema
      .custom(
          "tasks", "list",
          "{task: perplexity | longppl | attention | posgen | passkey | needle | ruler | embedding, …}.",
          [&config, list](const YamlNode& node) { config.tasks = list("tasks", node); },
          [&config] { return std::optional<Json>(config.tasks); })
      .required();
  schema.boolean("watch", config.watch, "Waits for further checkpoints until every run has ended.");
  schema
      .duration("watch_patience", config.watch_patience,
                "How long watch waits for a run that is not active: not started yet, requeued, or dead.")
      .above(0);
  schema.text("output", config.output, "The sweep's folder: evals.jsonl, table.csv, lm_eval.json, report.html.")
      .required();
  schema.boolean("overwrite", config.overwrite,
                 "Allows files in a new sweep's folder to be replaced that carillon did not write.");
  schema.section("compare", "Paired differences between settings that scored the same tokens.");
  schema.text("compare.baseline", config.baseline,
              "The rope setting or model with which the others are compared. Default: the first rope setting or, if "
              "there is only one, the first model.");
  declare_data(schema, config.data);
  declare_parallel(schema, config.parallel);
  declare_runtime(schema, config.runtime);
}

SweepConfig load_sweep_config(const std::string& path, const std::vector<std::string>& overrides) {
  SweepConfig config;
  Schema schema;
  declare_sweep(schema, config);
  schema.apply_file(path);
  for (const std::string& argument : overrides) schema.apply_override(argument);
  schema.finish("sweep");
  config.read_from = path;
  resolve_tasks(config);
  check_baseline(config);
  return config;
}

SweepConfig training_sweep(const RunConfig& run) {
  SweepConfig config;
  config.lengths = run.eval.lengths.empty() ? std::vector<int64_t>{run.data.sequence_length} : run.eval.lengths;
  if (!run.eval.rope.empty()) config.rope = run.eval.rope;
  config.tasks = run.eval.tasks.empty() ? Json::array({{{"task", "perplexity"}}}) : run.eval.tasks;
  config.data = run.data;
  config.parallel = run.parallel;
  config.runtime = run.runtime;
  config.output = run.output;
  resolve_tasks(config);
  return config;
}

void resolve_tasks(SweepConfig& config) {
  refuse_repeated("models", config.models);
  refuse_repeated("lengths", config.lengths);
  for (const int64_t length : config.lengths)
    if (length < 2) fail(ExitCode::kUsage, "a length is {}, in lengths, give at least 2", length);
  std::set<std::string> names;
  for (Json& task : config.tasks) {
    task = resolve_task(task);
    task_kinds().at(task["task"].get<std::string>()).check(task, config);
    if (!names.insert(task["name"].get<std::string>()).second)
      fail(ExitCode::kUsage, "two tasks are called {}, in tasks, give them names", task["name"].get<std::string>());
  }
}

bool may_be_run_folder(const std::string& model) {
  std::error_code error;
  const fs::path path(model);
  if (fs::is_directory(path / "checkpoints", error)) return true;
  if (!fs::is_directory(path, error)) return false;
  return !fs::exists(path / "config.json", error) && !fs::exists(path / "manifest.json", error) &&
         !fs::exists(path / "adapter_config.json", error);
}

Json to_json(const SweepPoint& point) {
  return {{"id", point.id},
          {"model", point.model},
          {"step", point.step ? Json(*point.step) : Json()},
          {"path", point.path},
          {"name", point.rope_name},
          {"rope", point.rope},
          {"length", point.length},
          {"task", point.task},
          {"model_hash", point.model_hash},
          {"inputs_hash", point.inputs_hash}};
}

SweepPoint sweep_point_of(const Json& json) {
  SweepPoint point{json["id"],   json["model"],  std::nullopt, json["path"],       json["name"],
                   json["rope"], json["length"], json["task"], json["model_hash"], json["inputs_hash"]};
  if (!json["step"].is_null()) point.step = json["step"].get<int64_t>();
  return point;
}

std::vector<SweepPoint> sweep_points(const SweepConfig& config) {
  std::vector<SweepPoint> points;
  for (const std::string& model : config.models) {
    std::vector<std::pair<std::optional<int64_t>, std::string>> paths;
    if (fs::is_directory(fs::path(model) / "checkpoints") || (config.watch && may_be_run_folder(model))) {
      for (const CheckpointFolder& found : chosen(config, model)) paths.emplace_back(found.step, found.path);
    } else {
      if (!fs::exists(model) && config.watch) continue;
      if (!fs::exists(model)) fail(ExitCode::kMissingInput, "there is no model, {}, correct models", model);
      const int64_t step = step_of_folder(model);
      paths.emplace_back(step >= 0 ? std::optional(step) : std::nullopt, model);
    }
    for (const auto& [step, path] : paths)
      for (const auto& [name, settings] : config.rope.items())
        for (const int64_t length : config.lengths)
          for (const Json& task : config.tasks) {
            SweepPoint point{"", model, step, path, name, settings, length, task, "", ""};
            Json identity = {{"model", model},
                             {"step", step ? Json(*step) : Json()},
                             {"rope", settings},
                             {"length", length},
                             {"task", task}};
            if (config.adapter) identity["adapter"] = *config.adapter;
            point.id = hash_of_text(identity.dump()).substr(0, 16);
            points.push_back(std::move(point));
          }
  }
  return points;
}

}  // namespace carillon
