#include "launch/config/run_config.h"

#include <utility>

#include "launch/config/unused_keys.h"
#include "model/config.h"
#include "model/same_model.h"
#include "runtime/text.h"

namespace carillon {
namespace {

void declare_output(Schema& schema, RunConfig& config) {
  schema.section("", "Top level.");
  schema
      .text("output", config.output,
            "The run's folder, for configuration, metrics, log and checkpoints. Starting again with the same folder "
            "resumes the run.")
      .default_is("required")
      .may_change()
      .aliases({"output_dir", "out_dir", "save_dir", "output_path", "run_dir"});
  schema
      .boolean("overwrite", config.overwrite,
               "Allows files in a new run's folder to be replaced that carillon did not write.")
      .may_change();
}

// Declares on defaults, then takes the values: what a schema writes is then complete.
template <class Use>
auto with_schema(const RunConfig& config, Use use) {
  RunConfig values;
  Schema schema;
  declare_run(schema, values);
  values = config;
  return use(schema);
}

}  // namespace

void declare_run(Schema& schema, RunConfig& config) {
  declare_model(schema, config.model);
  declare_rope(schema, config.rope);
  declare_data(schema, config.data);
  declare_train(schema, config.train);
  declare_adapter(schema, config.adapter);
  declare_parallel(schema, config.parallel);
  declare_runtime(schema, config.runtime);
  declare_checkpoint(schema, config.checkpoint);
  declare_eval(schema, config.eval);
  declare_output(schema, config);
}

void require_decay_steps(const TrainSection& train, int64_t steps, const std::string& where) {
  if (train.lr_scheduler == ScheduleKind::kOneCycle && train.warmup(steps) >= steps)
    fail(ExitCode::kUsage, "one_cycle with {} warm-up steps of {} has no way down, {}, shorten the warm-up",
         train.warmup(steps), steps, where);
}

void check_run(const Schema& schema, const RunConfig& config) {
  const auto need = [&](const char* name, const char* example) {
    if (!schema.given(name)) {
      fail(ExitCode::kUsage, "{} is missing, {}, add it ({})", name, schema.source(), example);
    }
  };
  const auto exclude = [&](const std::string& name, const std::string& other, const char* why) {
    if (schema.given(name) && schema.given(other)) {
      fail(ExitCode::kUsage, "{} and {} are both given, {} and {}, {}", name, other, schema.where(name),
           schema.where(other), why);
    }
  };
  if (config.model.base) {
    for (const auto& [name, value] : config.model.geometry.items()) {
      exclude("model.base", "model." + name, "remove one: a base model has its own geometry");
    }
  } else {
    for (const char* name :
         {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}) {
      if (!config.model.geometry.contains(name)) {
        fail(ExitCode::kUsage, "model.{} is missing, {}, give model.base or a whole geometry", name, schema.source());
      }
    }
  }
  need("data.train", "data: {train: [{path: train.jsonl}]}");
  if (config.data.train.empty())
    fail(ExitCode::kUsage, "data.train is empty, {}, name a file", schema.where("data.train"));
  if (config.data.by_name())
    for (size_t i = 0; i < config.data.train.size(); ++i)
      for (size_t k = 0; k < i; ++k)
        if (config.data.train[i].name_or_path() == config.data.train[k].name_or_path())
          fail(ExitCode::kUsage, "two entries of data.train are called {}, {}, give them names",
               printable(config.data.train[i].name_or_path()), schema.where("data.train"));
  if (config.data.by_weight() && config.train.epochs)
    fail(ExitCode::kUsage,
         "train.epochs and weights in data.train are both given, {} and {}, set train.max_steps: sources that start "
         "again when used up have no epoch in common",
         schema.where("train.epochs"), schema.where("data.train"));
  need("data.sequence_length", "data: {sequence_length: 4k}");
  const PositionKind positions = config.data.positions;
  if (config.data.positions_length && positions == PositionKind::kConsecutive)
    fail(ExitCode::kUsage,
         "data.positions_length is where skipped positions end, and data.positions is consecutive, {}, use "
         "data.positions pose or skipalign, or leave it out",
         schema.where("data.positions_length"));
  if (config.data.positions_length && positions == PositionKind::kRandom)
    fail(ExitCode::kUsage,
         "data.positions random goes by rope.factor, and data.positions_length is given, {}, leave it out",
         schema.where("data.positions_length"));
  if (config.data.skip_probability && positions != PositionKind::kSkipAlign)
    fail(ExitCode::kUsage, "data.skip_probability is of data.positions skipalign, {}, use that or leave it out",
         schema.where("data.skip_probability"));
  // A null on the command line takes back what the file says.
  if (config.train.max_steps && config.train.epochs) exclude("train.max_steps", "train.epochs", "keep one of them");
  if (!config.train.max_steps && !config.train.epochs) {
    fail(ExitCode::kUsage, "train.max_steps is missing, {}, add it, or train.epochs", schema.source());
  }
  if (config.train.warmup_ratio) exclude("train.warmup_steps", "train.warmup_ratio", "keep one of them");
  if (config.train.max_steps)
    require_decay_steps(config.train, *config.train.max_steps, schema.where("train.lr_scheduler"));
  if (config.train.recompute == Recompute::kNone) {
    if (config.train.mlp_tile)
      fail(ExitCode::kUsage,
           "train.mlp_tile bounds what is computed again, and recompute none keeps the MLP of all rows, {}, use "
           "train.recompute selective or full, or leave mlp_tile out",
           schema.where("train.mlp_tile"));
    if (offloads_checkpoints(config.train.offload))
      fail(ExitCode::kUsage,
           "train.offload moves what recompute selective or full keep, and recompute is none, {}, use one of those, or "
           "train.offload none or optimizer",
           schema.where("train.offload"));
  }
  if (config.train.loss == TrainingLoss::kLongCrossEntropy &&
      config.train.long_loss.context + config.train.long_loss.stride >= config.data.sequence_length)
    fail(ExitCode::kUsage,
         "train.loss longce compares with {} to {} tokens of context, and a sequence has {}, {}, lower "
         "train.longce.context and stride or raise data.sequence_length",
         config.train.long_loss.context, config.train.long_loss.context + config.train.long_loss.stride,
         config.data.sequence_length, schema.where("train.loss"));
  check_adapter(schema, config.adapter);
  need("output", "output: runs/name");
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides,
                          std::vector<std::string>* unused) {
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  schema.apply_file(path);
  for (size_t i = 0; i < overrides.size(); ++i) schema.apply_override(overrides[i]);
  check_run(schema, config);
  config.read_from = path;
  if (unused != nullptr) *unused = unused_keys(schema, config);
  return config;
}

std::string resolved_yaml(const RunConfig& config) {
  return with_schema(config, [](const Schema& schema) { return schema.yaml(); });
}

Json to_json(const RunConfig& config) {
  return with_schema(config, [](const Schema& schema) { return schema.json(); });
}

namespace {

// The model that a run describes by its keys, with the rotation of `rope:`. Nothing if it has a base, or if the keys
// are wrong.
std::optional<ModelConfig> model_of(const Json& run) {
  try {
    ModelSection section;
    if (run.contains("model")) section.geometry = run["model"];
    if (section.geometry.contains("base") || section.geometry.empty()) return std::nullopt;
    ModelConfig model = parse_model_config(section.config_json(), "model", ExitCode::kUsage);
    static_cast<ModelRope&>(model) = merge_model_rope(model, run.value("rope", Json::object()), "rope");
    return model;
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

std::vector<std::string> changes_since(const Json& saved, const RunConfig& config, const std::string& where) {
  Json before = saved;
  const Json now = to_json(config);
  // Writing out a default, or leaving it out again, is not a change if the keys still describe the same model.
  const auto makes_the_same = [](Json run, const char* section, const std::string& key, const Json& value) {
    const std::optional<ModelConfig> without = model_of(run);
    run[section][key] = value;
    const std::optional<ModelConfig> with = model_of(run);
    return without && with && same_model(*without, *with);
  };
  for (const char* section : {"model", "rope"}) {
    if (!saved.is_object() || !saved.value(section, Json::object()).is_object()) continue;  // damaged: says the schema
    const Json was = saved.value(section, Json::object()), is = now.value(section, Json::object());
    for (const auto& [key, value] : is.items())
      if (!was.contains(key) && makes_the_same(saved, section, key, value)) before[section][key] = value;
    for (const auto& [key, value] : was.items())
      if (!is.contains(key) && makes_the_same(now, section, key, value)) before[section].erase(key);
  }
  return with_schema(config, [&](const Schema& schema) { return schema.changes_since(before, where); });
}

}  // namespace carillon
