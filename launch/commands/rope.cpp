// carillon rope: what a rotary setting does to each pair.
#include <algorithm>
#include <cmath>
#include "launch/commands/commands.h"
#include "launch/commands/rope_search.h"

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/config/run_config.h"
#include "launch/report/rope_chart.h"
#include "launch/session/unused_rope.h"
#include "model/rope_laws.h"
#include "model/rope_report.h"
#include "runtime/parse_json.h"
#include "runtime/text.h"

namespace carillon {
namespace {

struct RopeCommandConfig {
  RopeSection rope;
  std::optional<int64_t> length;
  std::optional<std::string> svg;
  std::optional<int64_t> distance;
  std::optional<std::string> pair_power;
  bool overwrite = false;
  int64_t head_dim = 128;
  int64_t max_position_embeddings = 2048;
};

void declare(Schema& schema, RopeCommandConfig& config) {
  schema.section("", "What is examined.");
  schema.integer("length", config.length, "The target length L'.")
      .at_least(1)
      .default_is("factor times the original length");
  schema.text("svg", config.svg, "Writes a diagram of the wavelengths to this file.");
  schema
      .integer("distance", config.distance,
               "Distance between query and key at which the phase shift of each pair caused by resonance, and its "
               "effect, is shown.")
      .at_least(1)
      .default_is("length - 1");
  schema
      .text("pair_power", config.pair_power,
            "Output of `carillon eval` with task: {task: attention} for a model: how much each pair contributes to the "
            "attention logits.")
      .default_is("all pairs alike");
  schema.boolean("overwrite", config.overwrite, "Allows svg to replace a file that carillon did not write.");
  schema.section("model", "Geometry of the attention head.");
  schema.integer("model.head_dim", config.head_dim, "Width of a head.").at_least(2).at_most(65536);
  schema.integer("model.max_position_embeddings", config.max_position_embeddings, "The model's own length.")
      .at_least(1);
  declare_rope(schema, config.rope);
}

// Every pair is followed over every position up to the greater length: minutes at this bound, days beyond.
void require_bounded_work(int64_t head_dim, double length, double original) {
  constexpr double kMostTurns = 1 << 30;
  const double turns = static_cast<double>(head_dim) / 2 * std::max(length, original);
  if (!(turns <= kMostTurns))
    fail(ExitCode::kUsage,
         "{} pairs over {:.6g} positions are more than {:.0f} turns to follow, on the command line, give a length (or "
         "factor) of at most {:.0f}",
         head_dim / 2, std::max(length, original), kMostTurns, kMostTurns * 2 / static_cast<double>(head_dim));
}

// Returns metrics.pair_power of the output of `carillon eval`.
std::vector<double> pair_power_of(const std::string& path) {
  const Json result = parse_json(read_whole_file(path), path);
  const Json& metrics = result.is_object() && result.contains("metrics") ? result["metrics"] : result;
  const bool numbers = metrics.is_object() && metrics.contains("pair_power") && metrics["pair_power"].is_array() &&
                       std::all_of(metrics["pair_power"].begin(), metrics["pair_power"].end(),
                                   [](const Json& value) { return value.is_number(); });
  if (!numbers)
    fail(ExitCode::kBadInput, "there is no list of numbers metrics.pair_power, {}, give what carillon eval printed",
         path);
  return metrics["pair_power"].get<std::vector<double>>();
}

// The results of 2310.05209 and 2405.14591 for plain RoPE of this base, trained at L and used at `length`.
struct Laws {
  int64_t dimensions;
  double critical_base, bound, base_needed;
  SmallBases small;
  std::optional<int64_t> negative;
};
Laws laws_of(const RopeConfig& config, int64_t head_dim, int64_t length) {
  const auto trained = static_cast<double>(config.original_max_position_embeddings), used = static_cast<double>(length);
  return {critical_dimensions(head_dim, config.base, trained),
          critical_base(config.base, trained, std::max(trained, used)),
          extrapolation_bound(head_dim, config.base, trained, config.base, trained),
          base_for_length(head_dim, config.base, trained, used),
          small_bases(trained),
          first_negative_similarity(head_dim, config.base, std::max(length, config.original_max_position_embeddings))};
}

Json to_json(const RopeReport& report, const RopeConfig& config, const Laws& found) {
  const Json laws = {{"critical_dimensions", found.dimensions},
                     {"critical_base", found.critical_base},
                     {"extrapolation_bound", found.bound},
                     {"base_for_length", found.base_needed},
                     {"small_bases", {found.small.quarter, found.small.half, found.small.full}},
                     {"first_negative_similarity", found.negative ? Json(*found.negative) : Json()}};
  Json pairs = Json::array(), movable = Json::array();
  for (const auto& [distance, share] : report.movable_by_distance)
    movable.push_back({{"distance", distance}, {"share", share}});
  for (const RopePairReport& pair : report.pairs) {
    const bool turns = pair.rounded_wavelength > 0;
    pairs.push_back({{"pair", pair.pair},
                     {"theta", pair.inverse_frequency},
                     {"wavelength", turns ? Json(pair.wavelength) : Json()},
                     {"rounded_wavelength", turns ? Json(pair.rounded_wavelength) : Json()},
                     {"feature_gap", pair.feature_gap},
                     {"feature_gap_without_resonance", pair.unrounded_feature_gap},
                     {"phase_shift", pair.phase_shift},
                     {"movable_share", pair.movable_share}});
    if (pair.disturbance_as_it_is)
      pairs.back()["disturbance"] = {{"as_it_is", *pair.disturbance_as_it_is},
                                     {"interpolated", *pair.disturbance_interpolated}};
  }
  return {{"type", name_of(config.type)},
          {"resonance", config.resonance},
          {"cope", config.cope},
          {"base", config.base},
          {"factor", config.factor},
          {"attention_factor", report.attention_factor},
          {"original_max_position_embeddings", report.original_length},
          {"length", report.length},
          {"critical_dimension", report.critical_dimension},
          {"log10_common_period", report.log10_common_period},
          {"distance", report.distance},
          {"movable_by_distance", movable},
          {"laws", laws},
          {"pairs", pairs}};
}

// Returns a bar from 1 to the wavelength, on a logarithmic scale that ends at the longest.
std::string bar_of(double wavelength, double longest) {
  constexpr double kCells = 24;
  if (!std::isfinite(wavelength)) return "does not turn";
  const auto cells = static_cast<size_t>(std::lround(kCells * std::log(wavelength) / std::log(std::max(longest, 2.0))));
  std::string bar;
  for (size_t i = 0; i < cells; ++i) bar += "▪";
  return bar;
}

void print(const RopeReport& report, const RopeConfig& config, const Laws& laws, bool measured) {
  fmt::print("{}: base {}, factor {}, attention factor {:.6f}\n", describe(config), config.base, config.factor,
             report.attention_factor);
  fmt::print("trained at {} tokens, looked at up to {}; critical dimension {} of {} pairs\n\n", report.original_length,
             report.length, report.critical_dimension, report.pairs.size());
  fmt::print("{:>5} {:>14} {:>14} {:>12} {:>12}{}\n", "pair", "theta", "wavelength", "rounded", "feature gap",
             config.resonance ? fmt::format(" {:>12} {:>12} {:>12}", "unrounded", "phase shift", "moves") : "");
  double longest = 2;
  for (const RopePairReport& pair : report.pairs)
    if (std::isfinite(pair.wavelength)) longest = std::max(longest, pair.wavelength);
  for (const RopePairReport& pair : report.pairs)
    fmt::print("{:>5} {:>14.8g} {:>14.6g} {:>12} {:>12.6g}{} {}{}\n", pair.pair, pair.inverse_frequency,
               pair.wavelength, pair.rounded_wavelength, pair.feature_gap,
               config.resonance ? fmt::format(" {:>12.6g} {:>12.4g} {:>12.4g}", pair.unrounded_feature_gap,
                                              pair.phase_shift, pair.movable_share)
                                : "",
               bar_of(pair.wavelength, longest),
               pair.pair == report.critical_dimension ? "  <- from here on longer than the training" : "");
  if (config.resonance) {
    fmt::print(
        "\nphase shift: what rounding turns a pair by at distance {}, in radians; moves: the share of the variance of "
        "attention's logits there that this can move ({}; 2 is a rotation at random)\n  over all pairs, by distance:",
        report.distance, measured ? "by the pairs' measured power" : "all pairs taken alike, see pair_power");
    for (const auto& [distance, share] : report.movable_by_distance) fmt::print(" {}: {:.3g}", distance, share);
    fmt::print("\n");
  }
  if (report.log10_common_period > 0)
    fmt::print("\nthe pairs before the critical dimension all stand as at the beginning after 10^{:.2f} tokens\n",
               report.log10_common_period);
  fmt::print("\nscaling laws (2310.05209), plain RoPE of this base trained at {}: critical dimension {}\n",
             report.original_length, laws.dimensions);
  fmt::print(
      "  it holds up to {:.6g} tokens; {} tokens take a base of {:.6g} (critical base when tuned there {:.6g})\n",
      laws.bound, report.length, laws.base_needed, laws.critical_base);
  fmt::print("  gradual failure below the bases {:.6g}, {:.6g}, {:.6g} (a quarter, half, full turn of every pair)\n",
             laws.small.quarter, laws.small.half, laws.small.full);
  if (laws.negative)
    fmt::print("base bound (2405.14591): from {} tokens away a like key can score below a random one\n",
               *laws.negative);
  else
    fmt::print("base bound (2405.14591): like keys score above random ones at every distance up to {}\n",
               report.length);
}

}  // namespace

std::string help_rope() {
  RopeCommandConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help() + "\nkeys of carillon rope search CONFIG.yaml:\n\n" + help_rope_search();
}

ExitCode run_rope(Program& program, const CommandLine& line) {
  if (!line.files.empty() && line.files[0] == "search") return run_rope_search(program, line);
  RopeCommandConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& file : line.files)
    fail(ExitCode::kUsage, "rope takes key=value arguments, or search CONFIG.yaml, not {}, see carillon rope --help",
         printable(file));
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  RopeConfig base;
  base.settings = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  base.max_position_embeddings = config.max_position_embeddings;
  base.original_max_position_embeddings = config.max_position_embeddings;
  const RopeConfig rope = merge_rope_config(base, config.rope.settings, "the command line");
  const double wanted = config.length ? static_cast<double>(*config.length)
                                      : rope.factor * static_cast<double>(rope.original_max_position_embeddings);
  require_bounded_work(config.head_dim, wanted, static_cast<double>(rope.original_max_position_embeddings));
  const auto length = static_cast<int64_t>(wanted);
  if (!program.main_rank()) return ExitCode::kDone;
  note_unused_rope(config.rope.settings, rope, program.notice());
  if (config.svg) check_output(*config.svg, {config.pair_power.value_or("")}, OutputKind::kChart, config.overwrite);
  if (rope.type == RopeType::kClex)
    program.warning("what rope type clex learns is in a model's weights: these are the frequencies it begins with");
  const std::vector<double> power = config.pair_power ? pair_power_of(*config.pair_power) : std::vector<double>();
  const RopeReport report = report_rope(rope, config.head_dim, length, config.distance.value_or(0), power);
  const Laws laws = laws_of(rope, config.head_dim, length);
  if (config.svg) write_whole_file(*config.svg, rope_wavelength_chart({{describe(rope), report}}));
  if (line.json)
    fmt::print("{}\n", to_json(report, rope, laws).dump(2));
  else
    print(report, rope, laws, config.pair_power.has_value());
  return ExitCode::kDone;
}

}  // namespace carillon
