#include "launch/train/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "data/files/posix_file.h"
#include "runtime/json_lines.h"

namespace carillon {
namespace {

std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.17g}", value) : "null"; }
std::string number(const std::optional<double>& value) { return value ? number(*value) : "null"; }

}  // namespace

std::string line_of(const StepMetrics& record) {
  std::string further;  // optional keys
  if (record.cross_entropy)
    further += fmt::format(",\"cross_entropy\":{},\"longce_weight\":{}", number(record.cross_entropy),
                           number(record.longce_weight));
  if (record.device_memory_bytes) further += fmt::format(",\"device_memory_bytes\":{}", *record.device_memory_bytes);
  if (!record.tokens_by_source.empty()) {
    Json by_source = Json::object();
    for (const auto& [name, tokens] : record.tokens_by_source) by_source[name] = tokens;
    further += ",\"tokens_by_source\":" + by_source.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  if (!record.memory_by_rank.empty())
    further += fmt::format(",\"memory_by_rank\":[{}]", fmt::join(record.memory_by_rank, ","));
  if (record.spike) further += fmt::format(",\"spike\":\"{}\"", *record.spike);
  if (record.slow_rank)
    further +=
        ",\"slow_rank\":" +
        Json{{"rank", record.slow_rank->rank}, {"host", record.slow_rank->host}, {"times", record.slow_rank->times}}
            .dump(-1, ' ', false, Json::error_handler_t::replace);
  return fmt::format(
      "{{\"step\":{},\"loss\":{},\"grad_norm\":{},\"lr\":{},\"tokens\":{},\"tokens_total\":{},\"seconds\":{},"
      "\"tokens_per_second\":{},\"peak_memory_bytes\":{}{},\"time\":{},\"communication\":{},\"max_steps\":{}}}",
      record.step, number(record.loss), number(record.grad_norm), number(record.lr), record.tokens, record.tokens_total,
      number(record.seconds), number(record.tokens_per_second), record.peak_memory_bytes, further, number(record.time),
      record.communication.dump(), record.max_steps);
}

namespace {

// Returns the size in bytes of the records up to `step`; nothing if the file does not exist.
std::optional<int64_t> bytes_up_to(const std::string& path, int64_t step) {
  const std::string remedy = "this line is not a record, fix it or name another output";
  JsonLines lines(path, JsonLines::LastLine::kMustEnd, remedy);
  if (!lines.opened()) return std::nullopt;
  int64_t keep = 0;
  while (const auto record = lines.next()) {
    // A record whose step is null belongs to no step of this run; it stays.
    const JsonFields fields(*record, {lines.place(), remedy});
    if (!record->contains("step")) fields.refuse("step", "give the step's number");
    if (integer_of(record->at("step")).value_or(step) > step) break;
    keep = lines.end();
  }
  return keep;
}

}  // namespace

void require_records(const std::string& folder, int64_t step) {
  for (const char* name : {"/metrics.jsonl", "/evals.jsonl"}) (void)bytes_up_to(folder + name, step);
}

void cut_records_after(const std::string& path, int64_t step) {
  const std::optional<int64_t> keep = bytes_up_to(path, step);
  if (keep && truncate(path.c_str(), *keep) != 0)
    fail(ExitCode::kInputOutput, "cannot be cut back to step {} ({}), {}, make it writable", step, std::strerror(errno),
         path);
}

MetricsFile::MetricsFile(const std::string& folder, int64_t step)
    : path_(folder + "/metrics.jsonl"), evals_path_(folder + "/evals.jsonl") {
  cut_records_after(path_, step);
  cut_records_after(evals_path_, step);
  descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644);
  if (descriptor_ < 0) fail_to_create("cannot be created", errno, path_, "make the folder writable");
}

MetricsFile::~MetricsFile() { close(descriptor_); }

void MetricsFile::append(const StepMetrics& record) {
  const std::string line = line_of(record) + "\n";
  for (size_t written = 0; written < line.size();) {
    const ssize_t count = write(descriptor_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      fail(ExitCode::kInputOutput, "cannot be written ({}), {}, make room and start again", std::strerror(errno),
           path_);
    written += static_cast<size_t>(count);
  }
}

void MetricsFile::sync() {
  int result = 0;
  do result = fsync(descriptor_);
  while (result != 0 && errno == EINTR);
  if (result != 0)
    fail(ExitCode::kInputOutput, "cannot be synced ({}), {}, check the disk and start again", std::strerror(errno),
         path_);
  if (access(evals_path_.c_str(), F_OK) == 0) sync_path(evals_path_);
}

}  // namespace carillon
