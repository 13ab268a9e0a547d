// carillon rope search: finds LongRoPE's divisors for a model by its perplexity on documents; a restart continues the
// search.
#include "launch/commands/rope_search.h"

#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/checkpoint/tensor_hash.h"
#include "data/files/output_check.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/evaluate/evaluator.h"
#include "launch/search/rope_search.h"
#include "launch/session/run_lock.h"
#include "launch/session/standard_streams.h"
#include "runtime/json_lines.h"
#include "runtime/stop_request.h"
#include "runtime/text.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

struct SearchConfig {
  std::string model;
  int64_t length = 0;
  RopeSection rope;
  RopeSearchOptions search;
  int64_t seed = 42;
  std::string window = "full";
  SweepConfig sweep;  // data, parallel, runtime, output
};

void declare(Schema& schema, SearchConfig& config) {
  schema.section("", "What divisors are searched for.");
  schema.text("model", config.model, "Model file, checkpoint, run folder, Hugging Face or PEFT folder.").required();
  declare_adapter_path(schema, config.sweep.adapter);
  schema
      .integer(
          "length", config.length,
          "Window length in tokens. If rope.factor is not given, the factor is this divided by the original length.")
      .at_least(2)
      .at_most(4294967296.0)
      .required();
  schema.choice("window", config.window, {{"full", "full"}, {"blocks", "blocks"}},
                "full: only the first window of each document in data.validation. blocks: consecutive windows.");
  schema.text("output", config.sweep.output, "Folder for search.jsonl, with one record per candidate, and best.yaml.")
      .required();
  schema.boolean("overwrite", config.sweep.overwrite, "Allows a best.yaml to be replaced that carillon did not write.");
  schema.section("search", "The evolutionary search (2402.13753).");
  const auto count = [&](const char* name, int64_t& target, const char* help) {
    schema.integer(name, target, help).at_least(1).at_most(1e6);
  };
  count("search.population", config.search.population, "Number of candidates in the first generation.");
  schema.integer("search.iterations", config.search.iterations, "Number of generations after the first.")
      .at_least(0)
      .at_most(1e6);
  count("search.parents", config.search.parents, "Number of best candidates from which a generation is derived.");
  count("search.mutations", config.search.mutations, "Candidates per generation made by mutating a parent.");
  count("search.crossovers", config.search.crossovers, "Candidates per generation made by crossing two parents.");
  schema.number("search.probability", config.search.probability, "Probability that a divisor is mutated.")
      .above(0)
      .at_most(1);
  schema.number("search.step", config.search.step, "Mutated divisors are multiples of this.").above(0).at_most(1);
  schema.integer("search.seed", config.seed, "Seed of the search.").at_least(0);
  declare_rope(schema, config.rope);
  declare_data(schema, config.sweep.data);
  declare_parallel(schema, config.sweep.parallel);
  declare_runtime(schema, config.sweep.runtime);
}

class Search {
 public:
  Search(Program& program, SearchConfig config, bool quiet)
      : config_(std::move(config)),
        quiet_(quiet),
        session_(program.make_world(), config_.sweep.parallel, config_.sweep.runtime, program.notice()) {}

  ExitCode run() {
    agree(*world_, [&] {
      if (!session_.main_rank()) return;
      std::error_code error;
      const fs::path folder = config_.sweep.output;
      check_result_folder({.path = config_.sweep.output,
                           .names = {"best.yaml"},
                           .others = {"config.json", "manifest.json", "checkpoints", "metrics.jsonl", "claims"},
                           .known = fs::exists(folder / "search.jsonl", error)},
                          {config_.sweep.read_from}, config_.sweep.overwrite);
      fs::create_directories(config_.sweep.output, error);
      if (error) fail_to_create("cannot be created", error.value(), config_.sweep.output, "name another output");
      lock_ = std::make_unique<RunLock>(config_.sweep.output, session_.notice());
    });
    // The geometry says how many pairs there are; the evaluator opens the model once more, with its weights.
    session_.open_model(config_.model, config_.rope.settings, config_.sweep.adapter.value_or(""));
    const RopeConfig rope = session_.model().config.rope;
    const int64_t head_dim = session_.model().config.head_dim;
    const double trained = static_cast<double>(rope.original_max_position_embeddings);
    factor_ = config_.rope.settings.contains("factor") ? config_.rope.settings["factor"].get<double>()
                                                       : static_cast<double>(config_.length) / trained;
    if (factor_ <= 1)
      fail(ExitCode::kUsage,
           "windows of {} tokens are no longer than the {} that the model was trained at, in length, make it longer or "
           "give rope.factor",
           config_.length, rope.original_max_position_embeddings);
    original_ = rope.original_max_position_embeddings;
    const std::vector<RopeFactors> seeds = seeds_of(rope, head_dim);
    read_records();
    session_.start_device();
    RopeSearch search(config_.search, factor_, seeds);
    const std::vector<RopeCandidate> found =
        search.run([&](int64_t iteration, const RopeFactors& factors) { return loss_of(iteration, factors); });
    // Earlier searches in this folder, with another seed or population, may have found better ones.
    RopeCandidate best = found.front();
    for (const auto& [factors, loss] : known_)
      if (loss < best.loss) best = {factors, loss};
    agree(*world_, [&] {
      if (!session_.main_rank()) return;
      write_whole_file(config_.sweep.output + "/best.yaml", best_yaml(best));
      fmt::print("{} candidates; perplexity by the divisors of\n", found.size());
      const char* const names[] = {"yarn", "ntk", "linear"};
      for (size_t i = 0; i < seeds.size(); ++i)
        fmt::print("  {:<8} {:.6g}\n", names[i], perplexity_of(found, seeds[i]));
      fmt::print("  {:<8} {:.6g}{}, in {}/best.yaml\n", "search", std::exp(found.front().loss),
                 best.loss < found.front().loss
                     ? fmt::format("; an earlier search in this folder found {:.6g}", std::exp(best.loss))
                     : "",
                 printable(config_.sweep.output));
      std::fflush(stdout);
    });
    return ExitCode::kDone;
  }

 private:
  // YaRN's, NTK's and linear divisors of the plain frequencies; within the search's bounds.
  std::vector<RopeFactors> seeds_of(const RopeConfig& rope, int64_t head_dim) const {
    std::vector<RopeFactors> seeds;
    const auto table = [&](const Json& settings) {
      Json full = {{"rope_theta", rope.base},
                   {"original_max_position_embeddings", original_},
                   {"partial_rotary_factor", rope.partial_rotary_factor}};
      full.update(settings);
      return make_rope_table(parse_rope_config(full, original_, "the search", ExitCode::kUsage), head_dim, 1)
          .inverse_frequency;
    };
    const std::vector<double> plain = table(Json::object());
    for (const char* type : {"yarn", "ntk", "linear"}) {
      const std::vector<double> scaled = table({{"rope_type", type}, {"factor", factor_}});
      RopeFactors seed;
      double least = 1;
      for (size_t i = 0; i < plain.size(); ++i)
        seed.push_back(least = std::clamp(plain[i] / scaled[i], least, 1.25 * factor_));
      seeds.push_back(std::move(seed));
    }
    return seeds;
  }

  Json settings_of(const RopeFactors& factors) const {
    Json settings = config_.rope.settings;
    settings["type"] = "longrope";
    settings["factor"] = factor_;
    settings["original_max_position_embeddings"] = original_;
    settings["short_factor"] = settings["long_factor"] = factors;
    return settings;
  }

  // What the losses depend on: a folder with the losses of another search is refused.
  std::string identity() const {
    Json data = Json::array();
    for (const DataSource& source : config_.sweep.data.validation) data.push_back(source.path);
    return hash_of_text(Json{{"model", config_.model},
                             {"adapter", config_.sweep.adapter.value_or("")},
                             {"length", config_.length},
                             {"window", config_.window},
                             {"rope", config_.rope.settings},
                             {"factor", factor_},
                             {"data", data},
                             {"dtype", name_of(config_.sweep.runtime.dtype)}}
                            .dump())
        .substr(0, 16);
  }

  std::string records_path() const { return config_.sweep.output + "/search.jsonl"; }

  // Reads the records on rank 0 and broadcasts them.
  void read_records() {
    std::string text;
    agree(*world_, [&] {
      if (!session_.main_rank()) return;
      const std::string remedy = "this line is not a record, fix it or name another output";
      JsonLines lines(records_path(), JsonLines::LastLine::kMustEnd, remedy);
      Json all = Json::array();
      int64_t end = 0;
      while (lines.opened()) {
        const auto record = lines.next();
        if (!record) break;
        end = lines.end();
        if (!record->contains("search") || !record->contains("factors") || !record->contains("loss"))
          fail(ExitCode::kBadInput, "{}, {}, {}", "a record has no search, factors or loss", lines.place(), remedy);
        if (record->at("search") != identity())
          fail(ExitCode::kUsage,
               "this folder holds a search of another model, data, length or rope, {}, name another output",
               config_.sweep.output);
        all.push_back({record->at("factors"), record->at("loss")});
      }
      // An incomplete last line, left by a search that was killed.
      if (lines.opened() && fs::file_size(records_path()) > static_cast<uintmax_t>(end))
        fs::resize_file(records_path(), static_cast<uintmax_t>(end));
      text = all.dump();
    });
    text = broadcast_text(*world_, text);
    for (const Json& record : Json::parse(text))
      known_[record[0].get<RopeFactors>()] = record[1].is_number() ? record[1].get<double>() : std::nan("");
  }

  double loss_of(int64_t iteration, const RopeFactors& factors) {
    if (const auto known = known_.find(factors); known != known_.end()) return known->second;
    agree(*world_, [] { throw_if_stop_requested("searching for the rotation's divisors"); });
    SweepPoint point{"",       config_.model,        std::nullopt,   config_.model,
                     "search", settings_of(factors), config_.length, config_.sweep.tasks[0]};
    const Json metrics = evaluator_.run(point);
    std::vector<double> loss{0};
    agree(*world_, [&] {
      if (!session_.main_rank()) return;
      loss[0] = metrics["loss"].is_number() ? metrics["loss"].get<double>() : std::nan("");
      append({{"search", identity()},
              {"iteration", iteration},
              {"loss", metrics["loss"]},
              {"perplexity", metrics["perplexity"]},
              {"factors", factors}});
      best_ = std::isnan(loss[0]) ? best_ : std::min(best_, loss[0]);
      if (!quiet_)
        write_to_screen(fmt::format("iteration {}, candidate {}: perplexity {:.6g}, best {:.6g}\n", iteration,
                                    known_.size() + 1, std::exp(loss[0]), std::exp(best_)));
    });
    world_->all_reduce(Tensor::of(loss, {1}), Reduction::kSum);
    return known_[factors] = loss[0];
  }

  void append(const Json& record) const {
    std::ofstream file(records_path(), std::ios::binary | std::ios::app);
    file << record.dump() << '\n';
    file.close();
    if (!file) fail(ExitCode::kInputOutput, "cannot be written, {}, make room and start again", records_path());
  }

  static double perplexity_of(const std::vector<RopeCandidate>& found, const RopeFactors& factors) {
    for (const RopeCandidate& candidate : found)
      if (candidate.factors == factors) return std::exp(candidate.loss);
    return std::nan("");
  }

  std::string best_yaml(const RopeCandidate& best) const {
    const std::string factors = Json(best.factors).dump();
    return fmt::format(
        "# carillon rope search: loss {:.17g} on windows of {} tokens\nrope:\n  type: longrope\n  factor: {:.17g}\n"
        "  original_max_position_embeddings: {}\n  short_factor: {}\n  long_factor: {}\n",
        best.loss, config_.length, factor_, original_, factors, factors);
  }

  SearchConfig config_;
  bool quiet_;
  Session session_;
  Communicator* world_ = &session_.world();
  std::unique_ptr<RunLock> lock_;  // rank 0
  Evaluator evaluator_{session_, config_.sweep};
  std::map<RopeFactors, double> known_;
  double factor_ = 1, best_ = INFINITY;
  int64_t original_ = 0;
};

}  // namespace

std::string help_rope_search() {
  SearchConfig config;
  Schema schema;
  declare(schema, config);
  return schema.help();
}

ExitCode run_rope_search(Program& program, const CommandLine& line) {
  if (line.files.size() != 2)
    fail(
        ExitCode::kUsage,
        "rope search takes one configuration file, on the command line, carillon rope search CONFIG.yaml [key=value…]");
  SearchConfig config;
  Schema schema;
  declare(schema, config);
  schema.apply_file(line.files[1]);
  for (const std::string& argument : line.overrides) schema.apply_override(argument);
  schema.finish("rope search");
  config.sweep.read_from = line.files[1];
  config.search.seed = static_cast<uint64_t>(config.seed);
  if (config.rope.settings.contains("type"))
    fail(ExitCode::kUsage, "rope.type is what is searched for (longrope), {}, leave it out", schema.where("rope.type"));
  if (config.sweep.data.validation.empty())
    fail(ExitCode::kUsage, "data.validation is missing, {}, name the documents whose perplexity decides",
         schema.source());
  config.sweep.lengths = {config.length};
  config.sweep.tasks = Json::array({{{"task", "perplexity"}, {"window", config.window}}});
  resolve_tasks(config.sweep);
  return Search(program, std::move(config), line.quiet).run();
}

}  // namespace carillon
