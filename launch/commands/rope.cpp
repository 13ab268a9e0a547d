// carillon rope: what a rotary setting does to every pair.
#include "launch/commands/commands.h"
#include "launch/run_config.h"
#include "model/rope_report.h"

namespace carillon {
namespace {

struct RopeCommandConfig {
  RopeSection rope;
  std::optional<int64_t> length;
  int64_t head_dim = 128;
  int64_t max_position_embeddings = 2048;
};

void declare(Schema& schema, RopeCommandConfig& config) {
  schema.section("", "What for.");
  schema.integer("length", config.length, "The length to look at, L'.")
      .at_least(1)
      .default_is("factor times the original length");
  schema.section("model", "The head.");
  schema.integer("model.head_dim", config.head_dim, "Width of a head.").at_least(2);
  schema.integer("model.max_position_embeddings", config.max_position_embeddings, "The model's own length.")
      .at_least(1);
  declare_rope(schema, config.rope);
}

Json to_json(const RopeReport& report, const RopeConfig& config) {
  Json pairs = Json::array();
  for (const RopePairReport& pair : report.pairs) {
    const bool turns = pair.rounded_wavelength > 0;
    pairs.push_back({{"pair", pair.pair},
                     {"theta", pair.inverse_frequency},
                     {"wavelength", turns ? Json(pair.wavelength) : Json()},
                     {"rounded_wavelength", turns ? Json(pair.rounded_wavelength) : Json()},
                     {"feature_gap", pair.feature_gap}});
  }
  return {{"type", name_of(config.type)},
          {"resonance", config.resonance},
          {"base", config.base},
          {"factor", config.factor},
          {"attention_factor", report.attention_factor},
          {"original_max_position_embeddings", report.original_length},
          {"length", report.length},
          {"critical_dimension", report.critical_dimension},
          {"pairs", pairs}};
}

void print(const RopeReport& report, const RopeConfig& config) {
  fmt::print("{}{}: base {}, factor {}, attention factor {:.6f}\n", config.resonance ? "resonance " : "",
             name_of(config.type), config.base, config.factor, report.attention_factor);
  fmt::print("trained at {} tokens, looked at up to {}; critical dimension {} of {} pairs\n\n", report.original_length,
             report.length, report.critical_dimension, report.pairs.size());
  fmt::print("{:>5} {:>14} {:>14} {:>12} {:>12}\n", "pair", "theta", "wavelength", "rounded", "feature gap");
  for (const RopePairReport& pair : report.pairs)
    fmt::print("{:>5} {:>14.8g} {:>14.6g} {:>12} {:>12.6g}{}\n", pair.pair, pair.inverse_frequency, pair.wavelength,
               pair.rounded_wavelength, pair.feature_gap,
               pair.pair == report.critical_dimension ? "  <- from here on longer than the training" : "");
}

}  // namespace

std::string help_rope() {
  RopeCommandConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_rope(Program& program, const CommandLine& line) {
  RopeCommandConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& file : line.files)
    fail(ExitCode::kUsage, "rope takes key=value arguments only, {}, see carillon rope --help", file);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  RopeConfig base;
  base.settings = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  base.max_position_embeddings = config.max_position_embeddings;
  base.original_max_position_embeddings = config.max_position_embeddings;
  const RopeConfig rope = merge_rope_config(base, config.rope.settings, "the command line");
  const int64_t length = config.length.value_or(
      static_cast<int64_t>(rope.factor * static_cast<double>(rope.original_max_position_embeddings)));
  const RopeReport report = report_rope(rope, config.head_dim, length);
  if (!program.main_rank()) return ExitCode::kDone;
  if (line.json)
    fmt::print("{}\n", to_json(report, rope).dump(2));
  else
    print(report, rope);
  return ExitCode::kDone;
}

}  // namespace carillon
