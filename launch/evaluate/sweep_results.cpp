#include "launch/evaluate/sweep_results.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "data/checkpoint/tensor_hash.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "launch/evaluate/sweep_claims.h"
#include "launch/evaluate/tasks/task.h"
#include "launch/report/report.h"
#include "runtime/json_lines.h"
#include "runtime/text.h"

namespace carillon {
namespace {

std::string task_hash(const Json& task) { return hash_of_text(task.dump()).substr(0, 16); }

Json common(const SweepPoint& point, double seconds) {
  Json record = {{"point", point.id},
                 {"model", point.model},
                 {"step", point.step ? Json(*point.step) : Json()},
                 {"rope_name", point.rope_name},
                 {"rope", point.rope},
                 {"length", point.length},
                 {"task", point.task["name"]},
                 {"status", "ok"},
                 {"seconds", seconds}};
  record["task_hash"] = task_hash(point.task);
  if (!point.model_hash.empty()) record["model_hash"] = point.model_hash;
  if (!point.inputs_hash.empty()) record["inputs_hash"] = point.inputs_hash;
  return record;
}

// Returns a field of a CSV file, quoted if necessary. Spreadsheets execute text that begins with one of = + - @, a tab
// or a return as a formula; a leading quote makes it text. Control characters are shown in printable form.
std::string csv(const std::string& name) {
  std::string text = printable(name);
  if (!text.empty() && std::string_view("=+-@").find(text[0]) != std::string_view::npos) text.insert(0, "'");
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string step_text(const SweepPoint& point) { return point.step ? std::to_string(*point.step) : ""; }

}  // namespace

namespace {

// Records of earlier versions lack the hashes, and a point lacks them while its files cannot be read.
bool agrees(const Json& record, const char* key, const std::string& hash) {
  const auto found = record.find(key);
  return found == record.end() || hash.empty() || *found == hash;
}

}  // namespace

namespace {

// Whether a line has what every reader of a sweep's records takes for granted.
bool is_record(const Json& line) {
  const auto has = [&](const char* key, bool (*fits)(const Json&)) {
    const auto found = line.find(key);
    return found != line.end() && fits(*found);
  };
  const auto is_text = [](const Json& value) { return value.is_string(); };
  const auto is_object = [](const Json& value) { return value.is_object(); };
  return line.is_object() && has("point", is_text) && has("status", is_text) &&
         (line["status"] != "ok" || has("metrics", is_object));
}

}  // namespace

bool is_of_model(const Json& record, const SweepPoint& point) { return agrees(record, "model_hash", point.model_hash); }

bool is_result_of(const Json& record, const SweepPoint& point) {
  return record["status"] == "ok" && is_of_model(record, point) && agrees(record, "inputs_hash", point.inputs_hash);
}

Json record_of(const SweepPoint& point, const Json& metrics, double seconds) {
  Json record = common(point, seconds);
  record["metrics"] = metrics;
  return record;
}

Json failure_of(const SweepPoint& point, const std::string& error, double seconds) {
  Json record = common(point, seconds);
  record["status"] = "failed";
  record["error"] = error;
  return record;
}

std::string main_metric(const Json& task) { return task_kinds().at(task["task"].get<std::string>()).main_metric; }

const std::map<std::string, Json>& SweepResults::read() const {
  std::ifstream file(folder_ + "/evals.jsonl", std::ios::binary);
  file.seekg(0, std::ios::end);
  if (!file || file.tellg() < read_to_) {  // missing, or started anew
    records_.clear();
    read_to_ = lines_ = 0;
  }
  file.clear();
  file.seekg(read_to_);
  for (std::string line; std::getline(file, line);) {
    if (file.eof()) break;  // no newline: from a process that died or is still writing
    ++lines_;
    Json record = Json::parse(line, nullptr, false);
    if (!is_record(record))
      fail(ExitCode::kBadInput, "this line is not a record, {}/evals.jsonl:{}, fix it or name another output", folder_,
           lines_);
    read_to_ += static_cast<int64_t>(line.size()) + 1;
    const std::string point = record["point"].get<std::string>();
    records_[point] = std::move(record);
  }
  return records_;
}

std::vector<Json> SweepResults::read_lines() const {
  std::vector<Json> records;
  std::ifstream file(folder_ + "/evals.jsonl", std::ios::binary);
  for (std::string line; std::getline(file, line) && !file.eof();) {
    Json record = Json::parse(line, nullptr, false);
    if (record.is_object()) records.push_back(std::move(record));
  }
  return records;
}

void SweepResults::append(const Json& record) const {
  const FolderLock lock(folder_);
  const std::string path = folder_ + "/evals.jsonl";
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_to_create("cannot be created", errno, path, "make the folder writable");
  off_t end = lseek(descriptor, 0, SEEK_END);
  for (char last = '\n'; end > 0; --end)
    if (pread(descriptor, &last, 1, end - 1) == 1 && last == '\n') break;
  const std::string line = record.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const bool good = ftruncate(descriptor, end) == 0 &&
                    pwrite(descriptor, line.data(), line.size(), end) == static_cast<ssize_t>(line.size()) &&
                    fsync(descriptor) == 0;
  const int reason = errno;
  close(descriptor);
  if (!good)
    fail(ExitCode::kInputOutput, "cannot be written ({}), {}, make room and start again", std::strerror(reason), path);
}

std::string SweepResults::table(const SweepConfig& config, const std::vector<SweepPoint>& points) const {
  const auto& records = read();
  std::string text;
  for (const Json& task : config.tasks) {
    const std::string metric = main_metric(task);
    text += fmt::format("\n{}, {}\n{:<40} {:<18}", printable(task["name"].get<std::string>()), metric, "model", "rope");
    for (const int64_t length : config.lengths) text += fmt::format(" {:>9}", length);
    std::string row;
    for (const SweepPoint& point : points) {
      if (point.task != task) continue;
      const std::string name = printable(point.model) + (point.step ? " " + std::to_string(*point.step) : "");
      const std::string label = fmt::format("\n{:<40} {:<18}", name, printable(point.rope_name));
      if (label != row) text += row = label;
      const auto record = records.find(point.id);
      std::string cell = "-";
      if (record != records.end() && record->second["status"] == "failed") cell = "failed";
      if (record != records.end() && record->second["status"] == "ok" && record->second["metrics"][metric].is_number())
        cell = fmt::format("{:.4f}", record->second["metrics"][metric].get<double>());
      text += fmt::format(" {:>9}", cell);
    }
    text += "\n";
  }
  return text;
}

void SweepResults::write_files(const std::vector<SweepPoint>& points, const Json& comparisons) const {
  const auto& records = read();
  std::string rows = "model,step,rope,length,task,metric,value\n";
  Json lm = {{"results", Json::object()}, {"configs", Json::object()}, {"versions", Json::object()}};
  for (const SweepPoint& point : points) {
    const auto found = records.find(point.id);
    if (found == records.end() || found->second["status"] != "ok") continue;
    const std::string task = point.task["name"].get<std::string>();
    const std::string place =
        point.model + (point.step ? "@" + std::to_string(*point.step) : "") + "/" + point.rope_name;
    for (const auto& [metric, value] : found->second["metrics"].items()) {
      if (!value.is_number()) continue;
      rows += fmt::format("{},{},{},{},{},{},{}\n", csv(point.model), step_text(point), csv(point.rope_name),
                          point.length, csv(task), metric, value.dump());
      // In lm-eval's naming of length-dependent tasks the length comes before the filter.
      lm["results"][place + "/" + task]["alias"] = task;
      lm["results"][place + "/" + task][fmt::format("{}@{},none", metric, point.length)] = value;
    }
    lm["configs"][task] = point.task;
    lm["versions"][task] = 1;
  }
  for (const Json& entry : comparisons["comparisons"])
    for (const char* metric : {"difference", "standard_error"})
      if (entry.contains(metric) && entry[metric].is_number())
        rows +=
            fmt::format("{},{},{},{},{},{},{}\n", csv(entry["model"].get<std::string>()),
                        entry["step"].is_number() ? entry["step"].dump() : "", csv(entry["rope"].get<std::string>()),
                        entry["length"].dump(), csv(entry["task"].get<std::string>()),
                        std::string(metric) == "difference" ? "loss_difference" : "loss_difference_standard_error",
                        entry[metric].dump());
  write_whole_file(folder_ + "/table.csv", rows);
  // By these the page knows records of an earlier sweep whose names stood for other settings.
  Json written = comparisons;
  written["settings"] = {{"rope", Json::object()}, {"task_hash", Json::object()}};
  for (const SweepPoint& point : points) {
    written["settings"]["rope"][point.rope_name] = point.rope;
    written["settings"]["task_hash"][point.task["name"].get<std::string>()] = task_hash(point.task);
  }
  write_whole_file(folder_ + "/comparisons.json", written.dump(1) + "\n");
  write_whole_file(folder_ + "/lm_eval.json", lm.dump(2) + "\n");
  write_whole_file(folder_ + "/report.html", report_html(read_results(folder_)));
}

}  // namespace carillon
