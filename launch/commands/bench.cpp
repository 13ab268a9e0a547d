// carillon bench: measures this machine, for carillon plan.
#include "launch/machine/bench/bench.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "launch/commands/commands.h"
#include "launch/session/ranks.h"
#include "runtime/text.h"

namespace carillon {
namespace {

struct BenchConfig {
  BenchOptions bench;
  std::string output = default_profile_path();
  bool overwrite = false;
  RuntimeSection runtime;
};

void declare(Schema& schema, BenchConfig& config) {
  schema.section("bench", "What is measured, and for how long.");
  schema
      .number("bench.seconds", config.bench.seconds,
              "Approximate total time. Measurements that do not fit are skipped, the largest shapes first, and listed.")
      .above(0)
      .at_most(86400);
  schema.text("bench.output", config.output, "File for the profile. `carillon plan` reads the default path.")
      .default_is("$CARILLON_PROFILE, else ~/.config/carillon/profile.json");
  const auto set = [&schema, &config](const YamlNode& node) {
    const Key& key = *schema.find("bench.dtypes");
    if (node.kind != YamlNode::Kind::kSequence || node.items.empty())
      key.refuse(node, "a list such as [float32, bfloat16]");
    config.bench.dtypes.clear();
    for (const YamlNode& item : node.items) {
      const std::string word = detail::read_word(key, item, {"float64", "float32", "bfloat16"});
      for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16})
        if (name_of(dtype) == word && std::ranges::find(config.bench.dtypes, dtype) == config.bench.dtypes.end())
          config.bench.dtypes.push_back(dtype);
    }
  };
  const auto get = [&config] {
    Json names = Json::array();
    for (const DType dtype : config.bench.dtypes) names.push_back(name_of(dtype));
    return std::optional(names);
  };
  schema.custom("bench.dtypes", "list of float64, float32, bfloat16",
                "Number types of products and attention, which share the time.", set, get);
  schema.integer("bench.longest", config.bench.longest, "Number of tokens in the longest attention measured.")
      .at_least(1)
      .at_most(1 << 24)
      .default_is(fmt::format("{}, on a device {}", kLongest, kLongestOnDevice));
  schema.text("bench.folder", config.bench.folder,
              "Folder whose disk is measured; use the one where checkpoints will be written.");
  declare_runtime(schema, config.runtime);
  schema.section("", "Options.");
  schema.boolean("overwrite", config.overwrite, "Allows a file to be replaced that carillon did not write.");
}

std::vector<std::string> peak_words(const MachineProfile& profile) {
  std::vector<std::string> words;
  for (const auto& [dtype, rate] : profile.peak_flops_per_second)
    words.push_back(fmt::format("{:.1f} TFLOP/s {}", rate * 1e-12, name_of(dtype)));
  words.push_back(fmt::format("{:.0f} GB/s memory", profile.peak_memory_bytes_per_second * 1e-9));
  return words;
}

void print_table(const BenchResult& result, int ranks) {
  const MachineProfile& profile = result.profile;
  const double mebi = 1024.0 * 1024.0;
  const bool shares = profile.peak_memory_bytes_per_second > 0 || !profile.peak_flops_per_second.empty();
  if (profile.device == "cuda")
    fmt::print("{}, {}: {} ranks at once, the slowest counts\n", printable(profile.processor), profile.instruction_set,
               ranks);
  else
    fmt::print("{}, {}: {} ranks of {} threads at once, the slowest counts\n", printable(profile.processor),
               profile.instruction_set, ranks, profile.threads);
  fmt::print("room for {} ranks per node, {:.0f} MiB each; a rank takes {:.0f} MiB before its first tensor\n",
             profile.ranks_per_node, static_cast<double>(profile.memory_bytes) / mebi,
             static_cast<double>(profile.library_bytes) / mebi);
  if (shares) fmt::print("peak: {} ({})\n", join(peak_words(profile)), profile.peak_source);
  fmt::print("\n");
  size_t what = 0, shape = 0;
  const auto width = [](const std::string& text) {  // characters, not bytes: ×, ᵀ and µ have several
    return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
  };
  for (const BenchRow& row : result.rows) {
    what = std::max(what, width(row.what));
    shape = std::max(shape, width(row.shape));
  }
  const auto line = [&](const std::string& a, const std::string& b, const std::string& c, const std::string& d,
                        const std::string& e) {
    fmt::print("{}{}  {}{}  {}{}  {}{}\n", a, std::string(what - width(a), ' '), b, std::string(shape - width(b), ' '),
               std::string(14 - std::min<size_t>(14, width(c)), ' '), c, shares ? fmt::format("{:>9}  ", d) : "", e);
  };
  line("what", "case", "median", "of peak", "spread");
  for (const BenchRow& row : result.rows)
    line(row.what, row.shape, row.figure, row.share ? fmt::format("{:.1f} %", 100 * *row.share) : "",
         row.timing.repetitions > 1    ? fmt::format("{:4.1f} % of {}", 100 * row.timing.spread, row.timing.repetitions)
         : row.timing.repetitions == 1 ? "   - of 1"
                                       : "");
}

}  // namespace

std::string help_bench() {
  BenchConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_bench(Program& program, const CommandLine& line) {
  if (!line.files.empty())
    fail(ExitCode::kUsage,
         "bench takes no files, not {}, on the command line, carillon bench [bench.*=…] [runtime.*=…]",
         printable(line.files[0]));
  BenchConfig config;
  Schema schema;
  declare(schema, config);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("bench");
  const auto world = program.make_world();
  const bool main_rank = world->rank() == 0;
  // Finds out whether the profile can be written before spending half a minute on measuring.
  agree(*world, [&] {
    if (!main_rank) return;
    check_output(config.output, {}, OutputKind::kProfile, config.overwrite);
    const auto folder = std::filesystem::path(config.output).parent_path();
    std::error_code error;
    if (!folder.empty()) std::filesystem::create_directories(folder, error);
    OutputFile probe(config.output);
  });
  const int64_t library_bytes = bench_libraries(*world, config.runtime, config.bench.folder);
  const NodeMap nodes = map_nodes(*world);
  const auto backend = make_backend(*world, nodes, config.runtime, program.notice(), nullptr, /*trains=*/true);
  const bool speaks = main_rank && !line.quiet;
  const BenchResult result =
      run_bench(*backend, *world, nodes, config.bench, library_bytes, [&](const std::string& text) {
        if (speaks) fmt::print(stderr, "{}\n", printable(text));
      });
  agree(*world, [&] {
    if (main_rank) write_machine_profile(result.profile, config.output);
  });
  if (!main_rank) return ExitCode::kDone;
  for (const std::string& text : result.left_out) program.warning("not measured: " + text);
  if (line.json)
    fmt::print("{}", machine_profile_json(result.profile));
  else
    print_table(result, program.ranks());
  std::fflush(stdout);  // before the last line on the other stream
  if (speaks) fmt::print(stderr, "profile in {}\n", printable(config.output));
  return ExitCode::kDone;
}

}  // namespace carillon
