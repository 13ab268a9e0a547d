// The parsers of launch/: configurations, the command line, records and the reports made from them, claims, profiles.
#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "launch/commands/command_line.h"
#include "launch/commands/foreign_exceptions.h"
#include "launch/config/run_config.h"
#include "launch/evaluate/sweep_claims.h"
#include "launch/evaluate/sweep_config.h"
#include "launch/machine/machine_profile.h"
#include "launch/report/report.h"
#include "launch/report/run_view.h"
#include "launch/train/metrics_file.h"
#include "runtime/foreign_error.h"
#include "runtime/json_lines.h"
#include "runtime/parse_json.h"
#include "tests/fuzz/target.h"

namespace carillon::fuzz {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> lines_of_text(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size() && lines.size() < 64;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

void check_yaml(const YamlNode& node, int depth, int& nodes) {
  require(depth <= kYamlMaximumDepth && ++nodes <= kYamlMaximumNodes, "YAML beyond its bounds");
  require(node.kind != YamlNode::Kind::kMapping || node.keys.size() == node.items.size(), "a mapping with half a pair");
  for (const YamlNode& item : node.items) check_yaml(item, depth + 1, nodes);
}

// A configuration file, and overrides, one per line.
void run_configuration(std::string_view bytes) {
  const auto parts = parts_of(bytes, 2);
  int nodes = 0;
  check_yaml(parse_yaml(parts[0], "run.yaml"), 1, nodes);
  const RunConfig config = load_run_config(write_file("run.yaml", parts[0]), lines_of_text(parts[1]));
  const std::string text = resolved_yaml(config);
  const RunConfig again = load_run_config(write_file("config.yaml", text), {});
  require(resolved_yaml(again) == text, "a resolved configuration reads back as another");
  require(to_json(again) == to_json(config), "a resolved configuration reads back as another");
  require(changes_since(to_json(config), again, "the checkpoint").empty(), "a configuration differs from itself");
}

// The configuration of a run as stored in a checkpoint.
void run_saved_configuration(std::string_view bytes) {
  static const RunConfig config = load_run_config(
      write_file(
          "small.yaml",
          "{model: {base: m}, data: {train: [{path: a.jsonl}], sequence_length: 8}, train: {max_steps: 3}, output: o}"),
      {});
  changes_since(parse_json(bytes, "manifest.json"), config, "manifest.json");
}

void run_sweep_configuration(std::string_view bytes) {
  const auto parts = parts_of(bytes, 2);
  const SweepConfig config = load_sweep_config(write_file("sweep.yaml", parts[0]), lines_of_text(parts[1]));
  require(!config.lengths.empty() && !config.tasks.empty(), "a sweep of nothing");
  SweepPoint point;
  point.task = config.tasks[0];
  require(to_json(sweep_point_of(to_json(point))) == to_json(point), "a point reads back as another");
}

// The words of a command line, one per line. The settings among them are applied to a run.
void run_command_line(std::string_view bytes) {
  std::vector<std::string> words = lines_of_text(std::string(bytes));
  words.insert(words.begin(), "carillon");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  const ParsedLine parsed = parse_command_line(static_cast<int>(words.size()), pointers.data());
  require(parsed.command != nullptr || parsed.print, "a line without a command is taken");
  RunConfig config;
  Schema schema;
  declare_run(schema, config);
  for (const std::string& setting : parsed.line.overrides) schema.apply_override(setting);
}

// Checks that no text of a record becomes markup: the page contains only its own elements and no attribute that runs a
// script.
void check_page(std::string_view page) {
  constexpr std::array<std::string_view, 22> kElements{
      "html",    "head",    "meta",  "title", "style", "body", "h1",  "h2",   "h3",   "p",        "pre",
      "details", "summary", "table", "tr",    "th",    "td",   "svg", "line", "rect", "polyline", "text"};
  const auto letters = [&](size_t from) {
    size_t end = from;
    while (end < page.size() && (std::isalnum(static_cast<unsigned char>(page[end])) != 0 || page[end] == '-')) ++end;
    return page.substr(from, end - from);
  };
  for (size_t at = page.find('<'); at != std::string_view::npos; at = page.find('<', at)) {
    const bool closes = page.substr(at).starts_with("</");
    const std::string_view name = page.substr(at).starts_with("<!doctype") ? "html" : letters(at + (closes ? 2 : 1));
    if (name != "circle" && std::find(kElements.begin(), kElements.end(), name) == kElements.end())
      broken("a page holds an element " + std::string(name));
    // Attributes, with their values in quotes.
    for (at += 1 + name.size(); at < page.size() && page[at] != '>'; ++at) {
      if (page[at] == '"') at = std::min(page.find('"', at + 1), page.size());
      if (at < page.size() && page[at] == ' ')
        require(!letters(at + 1).starts_with("on"), "a page's element runs something");
    }
  }
}

// metrics.jsonl and evals.jsonl of a run's folder.
void run_records(std::string_view bytes) {
  const auto parts = parts_of(bytes, 3);
  const std::string folder = scratch_folder() + "/run";
  fs::create_directories(folder);
  write_file("run/metrics.jsonl", parts[0]);
  write_file("run/evals.jsonl", parts[1]);
  fs::remove(folder + "/comparisons.json");
  if (!parts[2].empty()) write_file("run/comparisons.json", parts[2]);
  const ReportInput input = read_results(folder);
  check_page(report_html(input));
  RunView view;
  view.folder = folder;
  if (!input.runs.empty()) view.steps = input.runs.front().steps;
  view.evaluations = input.records;
  for (const std::string& line : lines_of(view, 80))
    require(line.find('\x1b') == std::string::npos && line.find('\n') == std::string::npos,
            "a record reaches the terminal");
  require_records(folder, 5);
  cut_records_after(folder + "/metrics.jsonl", 5);
  require(text_of(folder + "/metrics.jsonl").size() <= parts[0].size(), "a file grows when it is cut");
}

void run_claim(std::string_view bytes) {
  const std::string folder = scratch_folder() + "/sweep";
  fs::create_directories(folder + "/claims");
  write_file("sweep/claims/0123456789abcdef", bytes);
  SweepClaims(folder).take("0123456789abcdef");
}

void run_machine_profile(std::string_view bytes) {
  const MachineProfile profile = parse_machine_profile(std::string(bytes), "profile.json");
  const std::string text = machine_profile_json(profile);
  require(machine_profile_json(parse_machine_profile(text, "its own text")) == text, "a profile reads back as another");
  profile.product_rate(DType::kFloat32, 64, 64, 64);
}

const char* const kMetrics =
    R"({"step":1,"loss":2.5,"grad_norm":1,"lr":0.001,"tokens":64,"tokens_total":64,"seconds":0.5,"tokens_per_second":128,)"
    R"("peak_memory_bytes":1000000,"memory_by_rank":[1000000],"tokens_by_source":{"a":64},"time":1.0,"communication":{"dp":{"bytes":8,"calls":1}},"max_steps":4})"
    "\n"
    R"({"step":2,"loss":null,"grad_norm":null,"lr":0.001,"tokens":0,"tokens_total":64,"seconds":0.5,"spike":"skipped"})"
    "\n";
const char* const kEvaluations =
    R"({"point":"0123456789abcdef","model":"m","step":2,"rope_name":"own","rope":{"type":"yarn","factor":2},"length":64,"task":"perplexity",)"
    R"("status":"ok","seconds":0.1,"metrics":{"loss":2.5,"perplexity":12.2,"tokens":63,"loss_by_position":[{"from":0,"to":64,"loss":2.5,"tokens":63}]}})"
    "\n"
    R"({"step":1,"rope_name":"<b>","length":32,"task":"posgen","metrics":{"ood_accuracy":0.5,"accuracy_by_position":[{"from":0,"to":8,"accuracy":null}]}})"
    "\n"
    R"({"point":"1","model":"m","task":"passkey","length":64,"rope_name":"own","status":"failed","error":"=x\u001b[2J"})"
    "\n";

std::vector<std::string> configurations(const std::string& source, bool sweeps) {
  std::vector<std::string> texts;
  for (std::string& text : texts_below(source + "/launch/configs", ".yaml"))
    if ((text.find("\nlengths:") != std::string::npos && text.find("\nmodels:") != std::string::npos) == sweeps)
      texts.push_back(std::move(text));
  if (!texts.empty())
    texts.push_back(
        joined({texts.front(), sweeps ? "lengths=[4k,8k]\nwatch=true" : "train.max_steps=64k\ndata.packing=split"}));
  return texts;
}

}  // namespace

void begin() { register_library_exceptions(); }

std::vector<Target> targets() {
  const auto of = [](std::vector<std::string> texts) { return [texts](const std::string&) { return texts; }; };
  return {
      {"configuration", run_configuration, [](const std::string& source) { return configurations(source, false); }},
      {"saved_configuration", run_saved_configuration,
       of({R"({"model":{"base":"m"},"data":{"train":[{"path":"a.jsonl"}],"sequence_length":9},"train":{"max_steps":4,"seed":3}})"})},
      {"sweep_configuration", run_sweep_configuration,
       [](const std::string& source) { return configurations(source, true); }},
      {"command_line", run_command_line,
       of({"train\nrun.yaml\ntrain.learning_rate=1e-4\nrope.sliding_attention.factor=2\n--quiet",
           "generate\nmodel=m\nprompt=a: b\n--json", "sweep\n--help", "rope\nrope.type=yarn\nlength=64k\n--jsn"})},
      {"records", run_records, of({joined({kMetrics, kEvaluations}), joined({kMetrics, "", "{\"comparisons\":[]}"})})},
      {"claim", run_claim, of({"host 1 2\n", "", "a b"})},
      {"machine_profile", run_machine_profile,
       [](const std::string&) {
         std::vector<std::string> texts;
         for (const std::string& name : built_in_profiles())
           texts.push_back(machine_profile_json(built_in_profile(name)));
         return texts;
       }},
  };
}

}  // namespace carillon::fuzz
