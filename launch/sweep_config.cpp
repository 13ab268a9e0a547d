#include "launch/sweep_config.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "data/checkpoint.h"
#include "data/tasks/posgen.h"
#include "data/tensor_hash.h"
#include "launch/text.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// The keys of each task beside `task` and `name`, with their defaults (null: none).
const std::map<std::string, Json>& known_tasks() {
  static const std::map<std::string, Json> tasks = {
      {"perplexity", {{"data", nullptr}, {"window", "full"}, {"stride", 256}, {"aggregation", "token"}}},
      {"posgen",
       {{"subtask", "recursive"},
        {"modulus", 17},
        {"far", 1},
        {"near", 3},
        {"train_length", 64},
        {"count", 1000},
        {"seed", 42},
        {"split", "test"},
        {"prefixes", "random"}}}};
  return tasks;
}

// The task with its defaults, or error 64 naming what is wrong.
Json resolve_task(const Json& given) {
  if (!given.is_object() || !given.contains("task") || !given["task"].is_string())
    fail(ExitCode::kUsage, "a task is {}, in tasks, write {{task: perplexity, …}}", given.dump());
  const std::string type = given["task"].get<std::string>();
  const auto found = known_tasks().find(type);
  if (found == known_tasks().end()) {
    std::vector<std::string> names;
    for (const auto& [name, keys] : known_tasks()) names.push_back(name);
    fail(ExitCode::kUsage, "task {} is not built, in tasks, this version has {}", printable(type), join(names));
  }
  Json task = {{"task", type}, {"name", given.value("name", type)}};
  std::vector<std::string> keys;
  for (const auto& [key, value] : found->second.items()) {
    keys.push_back(key);
    task[key] = value;
  }
  for (const auto& [key, value] : given.items()) {
    if (key == "task" || key == "name") continue;
    if (!found->second.contains(key))
      fail(ExitCode::kUsage, "task {} has no key {}, in tasks, did you mean {}?", type, printable(key),
           nearest(key, keys));
    const Json& otherwise = found->second[key];
    const bool fits = otherwise.is_null() || (otherwise.is_string() && value.is_string()) ||
                      (otherwise.is_number() && value.is_number_integer());
    if (!fits)
      fail(ExitCode::kUsage, "{} of task {} is {}, in tasks, give {}", key, type, value.dump(),
           otherwise.is_string() ? "a word" : "a whole number");
    task[key] = value;
  }
  return task;
}

void check_choice(const Json& task, const char* key, const std::vector<std::string>& choices) {
  const std::string value = task[key].get<std::string>();
  if (std::find(choices.begin(), choices.end(), value) == choices.end())
    fail(ExitCode::kUsage, "{} of task {} is {}, in tasks, give {}", key, task["name"].get<std::string>(),
         printable(value), join(choices, " or "));
}

void check_task(const Json& task, const SweepConfig& config) {
  if (task["task"] == "perplexity") {
    check_choice(task, "window", {"sliding", "full", "blocks"});
    check_choice(task, "aggregation", {"token", "window_mean"});
    if (task["stride"].get<int64_t>() < 1) fail(ExitCode::kUsage, "stride is below 1, in tasks, give at least 1");
    if (task["window"] == "sliding")
      for (const int64_t length : config.lengths)
        if (task["stride"].get<int64_t>() > length)
          fail(ExitCode::kUsage,
               "stride {} is above the length {}, in tasks, some tokens would never be scored: make it smaller",
               task["stride"].get<int64_t>(), length);
    if (task["data"].is_null() && config.data.validation.empty())
      fail(ExitCode::kUsage, "task {} names no data, in tasks, add data: [{{path: FILE}}] or data.validation",
           task["name"].get<std::string>());
  } else {
    parse_posgen_task(task["subtask"].get<std::string>());
    parse_posgen_split(task["split"].get<std::string>());
    parse_posgen_prefixes(task["prefixes"].get<std::string>());
  }
}

std::vector<CheckpointFolder> chosen(const SweepConfig& config, const std::string& model) {
  std::vector<CheckpointFolder> all = list_checkpoints(model + "/checkpoints");
  if (all.empty()) fail(ExitCode::kMissingInput, "there is no checkpoint, {}, train first", model);
  if (config.checkpoints == "newest") all.resize(1);
  std::reverse(all.begin(), all.end());
  if (!config.checkpoints.is_array()) return all;
  std::vector<CheckpointFolder> some;
  for (const Json& step : config.checkpoints) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& c) { return step == c.step; });
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
    if (!json.is_array() || json.empty()) fail(ExitCode::kUsage, "{} is no list, {}, write [a, b]", what, node.where);
    return json;
  };
  schema
      .custom(
          "models", "list", "Model files, checkpoints, runs' folders or Hugging Face folders.",
          [&config, list](const YamlNode& node) {
            config.models.clear();
            for (const Json& entry : list("models", node))
              config.models.push_back(entry.is_string() ? entry.get<std::string>() : entry.dump());
          },
          [&config] { return std::optional<Json>(config.models); })
      .required();
  schema.custom(
      "checkpoints", "all | newest | list of steps", "Which checkpoints of a run.",
      [&config](const YamlNode& node) { config.checkpoints = detail::free_json(node); },
      [&config] { return std::optional<Json>(config.checkpoints); });
  schema.custom(
      "rope", "mapping", "Named settings, merged over the model's own.",
      [&config](const YamlNode& node) {
        config.rope = detail::free_json(node);
        if (!config.rope.is_object() || config.rope.empty())
          fail(ExitCode::kUsage, "rope names no settings, {}, write {{own: {{}}, name: {{type: …}}}}", node.where);
        for (auto& [name, settings] : config.rope.items())
          if (settings.is_null()) settings = Json::object();
      },
      [&config] { return std::optional<Json>(config.rope); });
  schema
      .custom(
          "lengths", "list of integers", "Tokens of a window; 4k means 4096.",
          [&config](const YamlNode& node) {
            config.lengths.clear();
            Key key;
            key.name = "lengths";
            if (node.kind != YamlNode::Kind::kSequence)
              fail(ExitCode::kUsage, "lengths is no list, {}, write [4k, 8k]", node.where);
            for (const YamlNode& item : node.items) config.lengths.push_back(detail::read_integer(key, item));
          },
          [&config] { return std::optional<Json>(config.lengths); })
      .required();
  schema
      .custom(
          "tasks", "list", "{task: perplexity | posgen, …}.",
          [&config, list](const YamlNode& node) { config.tasks = list("tasks", node); },
          [&config] { return std::optional<Json>(config.tasks); })
      .required();
  schema.text("output", config.output, "The sweep's folder: evals.jsonl, table.csv, lm_eval.json, report.html.")
      .required();
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
  resolve_tasks(config);
  return config;
}

SweepConfig training_sweep(const RunConfig& run) {
  SweepConfig config;
  config.lengths = run.eval.lengths.empty() ? std::vector<int64_t>{run.data.sequence_length} : run.eval.lengths;
  if (!run.eval.rope.empty()) config.rope = run.eval.rope;
  for (auto& [name, settings] : config.rope.items())
    if (settings.is_null()) settings = Json::object();
  config.tasks = run.eval.tasks.empty() ? Json::array({{{"task", "perplexity"}}}) : run.eval.tasks;
  config.data = run.data;
  config.parallel = run.parallel;
  config.runtime = run.runtime;
  config.output = run.output;
  resolve_tasks(config);
  return config;
}

void resolve_tasks(SweepConfig& config) {
  for (const int64_t length : config.lengths)
    if (length < 2) fail(ExitCode::kUsage, "a length is {}, in lengths, give at least 2", length);
  std::set<std::string> names;
  for (Json& task : config.tasks) {
    task = resolve_task(task);
    check_task(task, config);
    if (!names.insert(task["name"].get<std::string>()).second)
      fail(ExitCode::kUsage, "two tasks are called {}, in tasks, give them names", task["name"].get<std::string>());
  }
}

std::vector<SweepPoint> sweep_points(const SweepConfig& config) {
  std::vector<SweepPoint> points;
  for (const std::string& model : config.models) {
    std::vector<std::pair<std::optional<int64_t>, std::string>> paths;
    if (fs::is_directory(fs::path(model) / "checkpoints")) {
      for (const CheckpointFolder& found : chosen(config, model)) paths.emplace_back(found.step, found.path);
    } else {
      if (!fs::exists(model)) fail(ExitCode::kMissingInput, "there is no model, {}, correct models", model);
      const int64_t step = step_of_folder(model);
      paths.emplace_back(step >= 0 ? std::optional(step) : std::nullopt, model);
    }
    for (const auto& [step, path] : paths)
      for (const auto& [name, settings] : config.rope.items())
        for (const int64_t length : config.lengths)
          for (const Json& task : config.tasks) {
            SweepPoint point{"", model, step, path, name, settings, length, task};
            const Json identity = {{"model", model},
                                   {"step", step ? Json(*step) : Json()},
                                   {"rope", settings},
                                   {"length", length},
                                   {"task", task}};
            point.id = text_hash(identity.dump()).substr(0, 16);
            points.push_back(std::move(point));
          }
  }
  return points;
}

}  // namespace carillon
