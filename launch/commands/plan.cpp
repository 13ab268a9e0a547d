// carillon plan: what a run needs, before it is started. One process, whatever the number of planned ranks.
#include <cstdio>

#include "launch/commands/commands.h"
#include "launch/plan/plan_report.h"

namespace carillon {

std::string help_plan() {
  PlanConfig config;
  Schema schema;
  declare_plan(schema, config);
  return schema.help();
}

ExitCode run_plan(Program& program, const CommandLine& line) {
  if (line.files.size() != 1)
    fail(ExitCode::kUsage,
         "plan takes one configuration file, not {}, on the command line, carillon plan CONFIG.yaml [plan.*=…] "
         "[key=value …]",
         line.files.size());
  const PlanConfig config = load_plan_config(line.files[0], line.overrides);
  const Plan plan = make_plan(config, program.notice());
  if (program.main_rank()) {
    fmt::print("{}", line.json ? plan_json(config, plan).dump(2) + "\n" : plan_text(config, plan));
    std::fflush(stdout);
  }
  if (const Limit* limit = plan.fatal()) throw Error(ExitCode::kUsage, limit->text);
  return ExitCode::kDone;
}

}  // namespace carillon
