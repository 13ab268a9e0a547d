// carillon eval: one evaluation, printed as one JSON object.
#include "launch/commands/commands.h"
#include "launch/evaluate/evaluator.h"
#include "launch/evaluate/sweep_results.h"

namespace carillon {
namespace {

struct EvalConfig {
  std::string model;
  int64_t length = 0;
  Json task = Json::object();
  RopeSection rope;
  SweepConfig sweep;  // data, parallel, runtime
};

void declare(Schema& schema, EvalConfig& config) {
  schema.section("", "What is evaluated.");
  schema.text("model", config.model, "Model file, checkpoint, run folder, Hugging Face or PEFT folder.").required();
  declare_adapter_path(schema, config.sweep.adapter);
  schema.integer("length", config.length, "Window length in tokens.").at_least(2).at_most(4294967296.0).required();
  schema
      .custom(
          "task", "mapping",
          "{task: perplexity | longppl | attention | posgen | passkey | needle | ruler | embedding, …}, as in a sweep.",
          [&config](const YamlNode& node) { config.task = detail::free_json(node); },
          [&config] { return std::optional<Json>(config.task); })
      .required();
  declare_rope(schema, config.rope);
  declare_data(schema, config.sweep.data);
  declare_parallel(schema, config.sweep.parallel);
  declare_runtime(schema, config.sweep.runtime);
}

}  // namespace

std::string help_eval() {
  EvalConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_eval(Program& program, const CommandLine& line) {
  if (line.files.size() > 1)
    fail(ExitCode::kUsage,
         "eval takes one configuration file, on the command line, carillon eval CONFIG.yaml [key=value…]");
  EvalConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& file : line.files) schema.apply_file(file);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("eval");
  config.sweep.lengths = {config.length};
  config.sweep.tasks = Json::array({config.task});
  resolve_tasks(config.sweep);

  Session session(program.make_world(), config.sweep.parallel, config.sweep.runtime, program.notice());
  session.start_device();
  Evaluator evaluator(session, config.sweep);
  const SweepPoint point{"",    config.model,         std::nullopt,  config.model,
                         "own", config.rope.settings, config.length, config.sweep.tasks[0]};
  const Json metrics = evaluator.run(point);
  if (!session.main_rank()) return ExitCode::kDone;
  const Json result = {{"model", config.model},
                       {"rope", config.rope.settings},
                       {"length", config.length},
                       {"task", config.sweep.tasks[0]},
                       {"metrics", metrics}};
  fmt::print("{}\n", result.dump(2));
  return ExitCode::kDone;
}

}  // namespace carillon
