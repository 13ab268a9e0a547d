#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "data/checkpoint/checkpoint.h"
#include "data/formats/model_source.h"
#include "launch/report/report.h"
#include "model/config.h"
#include "runtime/foreign_error.h"
#include "runtime/json_lines.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Error 65 at `place` if what the page reads of an evaluation's record has another type.
void check_types(const Json& record, const std::string& place) {
  const auto check = [&](const char* key, bool (*fits)(const Json&), const char* type) {
    const auto found = record.find(key);
    if (found != record.end() && !fits(*found))
      fail(ExitCode::kBadInput, "`{}` is not {}, {}, fix or remove this line, it is not a record", key, type, place);
  };
  for (const char* key : {"task", "rope_name", "model", "status", "error"})
    check(
        key, [](const Json& value) { return value.is_string(); }, "text");
  check(
      "length", [](const Json& value) { return value.is_number(); }, "a number");
  for (const char* key : {"rope", "metrics"})
    check(
        key, [](const Json& value) { return value.is_object() || value.is_null(); }, "an object");
}

std::vector<Json> read_lines(const fs::path& path, bool evaluations) {
  std::vector<Json> records;
  JsonLines lines(path, JsonLines::LastLine::kMustEnd, "fix or remove this line, it is not a record");
  while (auto record = lines.next()) {
    if (evaluations) check_types(*record, lines.place());
    records.push_back(std::move(*record));
  }
  return records;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Identifies a record's point: by its name, or in training by its fields.
std::string key_of(const Json& record) {
  if (record.contains("point")) return record["point"].dump();
  return Json{record.value("step", Json()), record.value("rope_name", Json()), record.value("length", Json()),
              record.value("task", Json())}
      .dump();
}

// Whether a record was made when the name of its rope setting or of its task stood for other settings than in the last
// sweep, which are in `settings`. Its row would otherwise join values of both.
bool is_superseded(const Json& record, const Json& settings) {
  const auto differs = [&](const char* kind, const char* name_key, const char* key) {
    const Json known = settings.value(kind, Json());
    const auto name = record.find(name_key), value = record.find(key);
    if (!known.is_object() || name == record.end() || value == record.end()) return false;  // of an earlier version
    const auto now = known.find(name->get<std::string>());
    return now != known.end() && *now != *value;
  };
  return differs("rope", "rope_name", "rope") || differs("task_hash", "task", "task_hash");
}

// Adds the rotation that a model has with a record's settings, if the model can still be read.
void add_rope(ReportInput& input, const std::string& model, const Json& record, int64_t length) {
  try {
    std::string path = model;
    if (const auto checkpoints = list_checkpoints(model + "/checkpoints"); !checkpoints.empty())
      path = checkpoints.front().path;
    const auto source = ModelSource::open(path);
    const ModelConfig config = parse_model_config(source->config_json(), path);
    const RopeConfig rope = merge_model_rope(config, record.value("rope", Json::object()), "the record").rope;
    const int64_t reach = std::max(length, rope.original_max_position_embeddings);
    constexpr int64_t kMostTurns = int64_t{1} << 26;  // of all pairs over all positions: takes seconds
    if (reach > kMostTurns / std::max<int64_t>(config.head_dim / 2, 1)) return;
    input.ropes.emplace_back(model + ", " + record.value("rope_name", "own"),
                             report_rope(rope, config.head_dim, reach));
  } catch (const std::exception&) {
    // The page shows what was recorded; for a missing model only this chart is missing.
  }
}

}  // namespace

ReportInput read_results(const std::string& given) {
  const WorkingOn here(given);
  if (!fs::exists(given))
    fail(ExitCode::kMissingInput, "there are no results, {}, name a sweep's or a run's folder", given);
  const fs::path folder = fs::is_directory(given) ? fs::path(given) : fs::path(given).parent_path();
  ReportInput input;
  input.title = folder.empty() ? given : folder.string();
  std::map<std::string, size_t> place;
  for (Json& record : read_lines(folder / "evals.jsonl", /*evaluations=*/true)) {
    const auto [at, fresh] = place.emplace(key_of(record), input.records.size());
    if (fresh)
      input.records.push_back(std::move(record));
    else
      input.records[at->second] = std::move(record);
  }
  if (const fs::path file = folder / "comparisons.json"; fs::exists(file))
    input.comparisons = parse_json(read_text(file), file.string());
  if (input.comparisons.is_object() && input.comparisons.value("settings", Json()).is_object())
    input.superseded = static_cast<int64_t>(std::erase_if(
        input.records, [&](const Json& record) { return is_superseded(record, input.comparisons["settings"]); }));
  std::vector<std::string> runs;
  if (fs::exists(folder / "metrics.jsonl")) runs.push_back(folder.string());
  int64_t longest = 0;
  for (const Json& record : input.records) {
    longest = std::max<int64_t>(longest, record.value("length", int64_t{0}));
    const std::string model = record.value("model", folder.string());
    if (std::find(runs.begin(), runs.end(), model) == runs.end() && fs::exists(fs::path(model) / "metrics.jsonl"))
      runs.push_back(model);
  }
  if (input.records.empty() && runs.empty())
    fail(ExitCode::kMissingInput,
         "there is neither evals.jsonl nor metrics.jsonl, {}, name a sweep's or a run's folder", given);
  for (const std::string& run : runs)
    input.runs.push_back({run, read_lines(fs::path(run) / "metrics.jsonl", /*evaluations=*/false),
                          read_text(fs::path(run) / "config.yaml")});
  std::set<std::string> drawn;
  for (const Json& record : input.records) {
    const std::string model = record.value("model", folder.string());
    if (drawn.size() < 8 && drawn.insert(model + record.value("rope", Json::object()).dump()).second)
      add_rope(input, model, record, longest);
  }
  if (drawn.empty() && !runs.empty()) add_rope(input, runs.front(), Json::object(), 0);
  return input;
}

}  // namespace carillon
