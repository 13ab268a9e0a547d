// carillon verify: checks that this layout computes what one rank computes.
#include <algorithm>

#include "launch/commands/commands.h"
#include "launch/train/layout_check.h"

namespace carillon {
namespace {

struct VerifyConfig {
  RunConfig run;
  LayoutCheckOptions check;
};

void declare(Schema& schema, VerifyConfig& config) {
  schema.section("verify", "The comparison.");
  schema.integer("verify.steps", config.check.steps, "Number of updates on both layouts.").at_least(1).at_most(1000000);
  schema.choice("verify.dtype", config.check.dtype,
                {{"float64", DType::kFloat64}, {"float32", DType::kFloat32}, {"bfloat16", DType::kBFloat16}},
                "Number type of the comparison; ~: the run's own. In float64, rounding cannot hide a mistake.");
  schema
      .number("verify.tolerance", config.check.tolerance,
              "Largest relative difference allowed; 0: the default of the type.")
      .at_least(0)
      .default_is("1e-9 in float64, 1e-3 in float32, 0.1 in bfloat16");
  schema.boolean("verify.shrink", config.check.shrink,
                 "Uses two layers with random weights. Without it every rank holds a whole copy of the model.");
  declare_run(schema, config.run);
}

}  // namespace

std::string help_verify() {
  VerifyConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_verify(Program& program, const CommandLine& line) {
  if (line.files.size() != 1)
    fail(ExitCode::kUsage,
         "verify takes one configuration file, not {}, on the command line, carillon verify CONFIG.yaml [key=value …]",
         line.files.size());
  VerifyConfig config;
  Schema schema;
  declare(schema, config);
  schema.apply_file(line.files[0]);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  check_run(schema, config.run);
  auto world = program.make_world();
  const int ranks = world->size();
  const bool main_rank = world->rank() == 0;
  if (ranks == 1)
    program.notice()(
        "only one rank was started, and is compared with itself: mpirun -n N carillon verify compares a layout of N");
  const LayoutCheck check = check_layout(std::move(world), config.run, config.check, program.notice());
  if (main_rank && line.json) {
    Json tensors = Json::object();
    for (const auto& tensor : check.tensors)
      tensors[tensor.name] = {{"gradient", tensor.gradient}, {"weight", tensor.weight}};
    fmt::print("{}\n", Json{{"agrees", check.agrees()},
                            {"dtype", name_of(check.dtype)},
                            {"tolerance", check.tolerance},
                            {"loss", check.loss},
                            {"gradient_norm", check.gradient_norm},
                            {"tensors", tensors}}
                           .dump(2));
  } else if (main_rank) {
    size_t width = 20;
    for (const auto& tensor : check.tensors) width = std::max(width, tensor.name.size());
    fmt::print("{:<{}} {:>12} {:>12}\n", "largest relative difference", width + 2, "gradient", "weight");
    for (const auto& tensor : check.tensors) {
      const bool bad = tensor.gradient > check.tolerance || tensor.weight > check.tolerance;
      fmt::print("{:<{}} {:>12.2e} {:>12.2e}{}\n", tensor.name, width + 2, tensor.gradient, tensor.weight,
                 bad ? "  <- differs" : "");
    }
    fmt::print("loss {:.2e}, gradient norm {:.2e} over {} steps, {} ranks against one, {}: {}\n", check.loss,
               check.gradient_norm, config.check.steps, ranks, name_of(check.dtype),
               check.agrees() ? "the layout changes nothing" : "the layout changes the result");
  }
  std::fflush(stdout);
  if (!check.agrees())
    fail(ExitCode::kInternal,
         "this layout does not compute what one rank computes (more than {:.1e} apart), {}, do not train with it: "
         "report it",
         check.tolerance, line.files[0]);
  return ExitCode::kDone;
}

}  // namespace carillon
