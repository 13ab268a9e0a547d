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
  schema.section("", "The sequences to generate.");
  schema.text("task", config.task, "recursive | cot | semi_recursive | semi_recursive_strict").required();
  schema.text("split", config.split, "train | validation | test; splits with the same seed share no prefix.");
  schema.integer("modulus", config.modulus, "Tokens are the digits 0 … modulus-1.");
  schema.integer("far", config.far, "Number of distant tokens that determine the next token.");
  schema.integer("near", config.near, "Number of recent tokens that determine the next token.");
  schema.integer("length", config.length, "Number of tokens after the leading EOS.");
  schema.integer("count", config.count, "Number of sequences.").at_least(1);
  schema.integer("seed", config.seed, "Seed of the order of prefixes.").at_least(0);
  schema.text("prefixes", config.prefixes,
              "random: as the paper intends; reference: enumerated as in the paper's code.");
  schema.boolean("overwrite", config.overwrite, "Allows an output to replace a file that carillon did not write.");
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
