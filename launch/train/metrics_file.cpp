#include "launch/train/metrics_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "data/files/posix_file.h"
#include "runtime/error.h"

namespace carillon {
namespace {

std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.17g}", value) : "null"; }
std::string number(const std::optional<double>& value) { return value ? number(*value) : "null"; }

}  // namespace

std::string line_of(const StepRecord& record) {
  return fmt::format(
      "{{\"step\":{},\"loss\":{},\"grad_norm\":{},\"lr\":{},\"tokens\":{},\"tokens_total\":{},\"seconds\":{},"
      "\"tokens_per_second\":{},\"peak_memory_bytes\":{}{},\"time\":{},\"communication\":{}}}",
      record.step, number(record.loss), number(record.grad_norm), number(record.lr), record.tokens, record.tokens_total,
      number(record.seconds), number(record.tokens_per_second), record.peak_memory_bytes,
      record.device_memory_bytes ? fmt::format(",\"device_memory_bytes\":{}", *record.device_memory_bytes) : "",
      number(record.time), record.communication.dump());
}

void cut_records_after(const std::string& path, int64_t step) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return;
  int64_t keep = 0, line_number = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {  // at the end of the file: a line without newline
    ++line_number;
    const Json record = Json::parse(line, nullptr, false);
    if (record.is_discarded() || !record.is_object() || !record.contains("step"))
      fail(ExitCode::kBadInput, "this line is no record, {}:{}, mend it or name another output", path, line_number);
    // A record without a step number belongs to no step of this run; it stays.
    if (record["step"].is_number_integer() && record["step"].get<int64_t>() > step) break;
    keep += static_cast<int64_t>(line.size()) + 1;
  }
  file.close();
  if (truncate(path.c_str(), keep) != 0)
    fail(ExitCode::kInputOutput, "cannot be cut back to step {} ({}), {}, make it writable", step, std::strerror(errno),
         path);
}

MetricsFile::MetricsFile(const std::string& folder, int64_t step)
    : path_(folder + "/metrics.jsonl"), evals_path_(folder + "/evals.jsonl") {
  cut_records_after(path_, step);
  cut_records_after(evals_path_, step);
  descriptor_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0)
    fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, make the folder writable", std::strerror(errno), path_);
}

MetricsFile::~MetricsFile() { close(descriptor_); }

void MetricsFile::append(const StepRecord& record) {
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
