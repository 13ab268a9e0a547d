// carillon train: trains from scratch or fine-tunes; resumes automatically.
#include "launch/commands/commands.h"
#include "launch/train/trainer.h"

namespace carillon {
namespace {

// Command lines and files are equal already, but the environment may still change the configuration.
void require_same_configuration(Communicator& world, const RunConfig& config) {
  const std::string mine = to_json(config).dump();
  const std::string first = broadcast_text(world, mine);
  agree(world, [&] {
    if (mine == first) return;
    const std::vector<std::string> differences = changes_since(Json::parse(first), config, "rank 0's configuration");
    fail(ExitCode::kUsage, "rank {} was given another configuration than rank 0{}, in its environment, start all alike",
         world.rank(), differences.empty() ? "" : " (" + differences.front() + ")");
  });
}

}  // namespace

std::string help_train() {
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  return schema.help();
}

ExitCode run_train(Program& program, const CommandLine& line) {
  if (line.files.size() != 1)
    fail(ExitCode::kUsage,
         "train takes one configuration file, not {}, on the command line, carillon train CONFIG.yaml "
         "[key=value …]",
         line.files.size());
  std::vector<std::string> unused;
  RunConfig config = load_run_config(line.files[0], line.overrides, &unused);
  config.runtime.profile = line.profile;
  std::unique_ptr<Communicator> world = program.make_world();
  require_same_configuration(*world, config);
  for (const std::string& text : unused) program.notice()(text);
  Trainer trainer(std::move(world), std::move(config), line.quiet);
  return trainer.run();
}

}  // namespace carillon
