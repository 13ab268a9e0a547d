// carillon slurm: prints the sbatch script for a run or a sweep to standard output.
#include "launch/slurm/slurm_script.h"

#include "launch/commands/commands.h"
#include "launch/config/run_config.h"
#include "launch/evaluate/sweep_config.h"
#include "launch/session/ranks.h"
#include "launch/session/run_checks.h"
#include "launch/train/training_step.h"

namespace carillon {
namespace {

// A sweep names models; a run does not.
bool is_sweep(const std::string& path) {
  const YamlNode document = parse_yaml_file(path);
  return document.kind == YamlNode::Kind::kMapping && document.find("models") != nullptr;
}

}  // namespace

std::string help_slurm() {
  SlurmSection slurm;
  Schema schema;
  declare_slurm(schema, slurm);
  return schema.help();
}

ExitCode run_slurm(Program& program, const CommandLine& line) {
  if (line.files.size() != 1)
    fail(ExitCode::kUsage,
         "slurm takes one configuration file, on the command line, carillon slurm CONFIG.yaml [slurm.*=…]");
  SlurmSection slurm;
  Schema schema;
  declare_slurm(schema, slurm);
  // Keys other than slurm.* belong to the command and are checked now, before the job waits a day in a queue.
  std::vector<std::string> arguments{line.files[0]}, overrides;
  for (const std::string& argument : line.overrides) {
    if (argument.starts_with("slurm.") || argument.starts_with("slurm=")) {
      schema.apply_override(argument);
    } else {
      arguments.push_back(argument);
      overrides.push_back(argument);
    }
  }
  const bool sweep = is_sweep(line.files[0]);
  const auto ranks = static_cast<int>(slurm.nodes * slurm.tasks_per_node);
  std::string output, device;
  if (sweep) {
    const SweepConfig config = load_sweep_config(line.files[0], overrides);
    (void)grid_shape(config.parallel, ranks);
    output = config.output, device = config.runtime.device;
  } else {
    const RunConfig config = load_run_config(line.files[0], overrides);
    require_layout(config, ranks);
    output = config.output, device = config.runtime.device;
  }
  const std::string text = slurm_script(slurm, device, sweep ? "sweep" : "train", output, arguments);
  if (program.main_rank()) fmt::print("{}", text);
  return ExitCode::kDone;
}

}  // namespace carillon
