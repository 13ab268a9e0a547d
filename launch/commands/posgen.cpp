// carillon posgen: writes PosGen sequences as JSON lines.
#include "data/tasks/posgen.h"

#include "data/files/output_check.h"
#include "launch/commands/commands.h"
#include "launch/config/schema.h"

namespace carillon {
namespace {

struct PosGenConfig {
  std::string task, split = "train", prefixes = "random";
  int64_t modulus = 17, far = 1, near = 3, length = 64, count = 1000, seed = 42;
  bool overwrite = false;
};

void declare(Schema& schema, PosGenConfig& config) {
  schema.section("", "Which sequences.");
  schema.text("task", config.task, "recursive | cot | semi_recursive | semi_recursive_strict").required();
  schema.text("split", config.split, "train | validation | test; the splits of one seed share no prefix.");
  schema.integer("modulus", config.modulus, "Digits 0 … modulus-1.");
  schema.integer("far", config.far, "Far tokens each next token depends on.");
  schema.integer("near", config.near, "Near tokens it depends on.");
  schema.integer("length", config.length, "Tokens after the leading EOS.");
  schema.integer("count", config.count, "Sequences.").at_least(1);
  schema.integer("seed", config.seed, "Of the order of prefixes.").at_least(0);
  schema.text("prefixes", config.prefixes, "random: the paper's intent; reference: its code's enumeration.");
  schema.boolean("overwrite", config.overwrite, "Whether an output that carillon did not write may be replaced.");
}

}  // namespace

std::string help_posgen() {
  PosGenConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_posgen(Program& program, const CommandLine& line) {
  PosGenConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("posgen");
  if (line.files.size() != 1)
    fail(ExitCode::kUsage, "posgen writes one file, not {}, on the command line, carillon posgen OUT.jsonl task=…",
         line.files.size());
  PosGenOptions options;
  options.task = parse_posgen_task(config.task);
  options.split = parse_posgen_split(config.split);
  options.prefixes = parse_posgen_prefixes(config.prefixes);
  options.modulus = config.modulus;
  options.far = config.far;
  options.near = config.near;
  options.length = config.length;
  options.count = config.count;
  options.seed = static_cast<uint64_t>(config.seed);
  const auto world = program.make_world();
  agree(*world, [&] {
    if (world->rank() != 0) return;
    check_output(line.files[0], {}, OutputKind::kSequences, config.overwrite);
    write_posgen(options, line.files[0]);
  });
  return ExitCode::kDone;
}

}  // namespace carillon
