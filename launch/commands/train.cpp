// carillon train: trains from scratch or fine-tunes; resumes by itself.
#include "launch/commands/commands.h"
#include "launch/trainer.h"

namespace carillon {

std::string help_train() {
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  return schema.help();
}

ExitCode run_train(Program& program, const CommandLine& line) {
  if (line.files.size() != 1)
    fail(ExitCode::kUsage, "train takes one configuration file, not {}, on the command line, carillon train CONFIG.yaml "
         "[key=value …]", line.files.size());
  RunConfig config = load_run_config(line.files[0], line.overrides);
  Trainer trainer(program.make_world(), std::move(config), line.quiet);
  return trainer.run();
}

}  // namespace carillon
