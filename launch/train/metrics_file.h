// metrics.jsonl: one record per step, appended and flushed. Numbers have 17 significant digits, so that they read back
// as the same doubles.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/train/slow_ranks.h"

namespace carillon {

using Json = nlohmann::ordered_json;

struct StepMetrics {
  int64_t step = 0;                 // steps completed, from 1
  std::optional<double> loss;       // not set: no targets, or not finite
  std::optional<double> grad_norm;  // before clipping
  // With train.loss longce: the mean cross-entropy without its weights, and the mean weight. Otherwise no keys.
  std::optional<double> cross_entropy, longce_weight;
  double lr = 0;
  int64_t tokens = 0;  // target tokens of the step
  int64_t tokens_total = 0;
  std::vector<std::pair<std::string, int64_t>> tokens_by_source;  // of `tokens`; empty (no key) if no source is named
  double seconds = 0;
  double tokens_per_second = 0;
  int64_t peak_memory_bytes = 0;        // most host memory used by any rank's process
  std::vector<int64_t> memory_by_rank;  // the same for every rank; only in records in which one grew by one hundredth
  int64_t max_steps = 0;                // of the run, as currently resolved
  // Memory in use on the fullest device after the step, including that of libraries; not set, and no key, if memory is
  // the host's. No op releases memory within a step, so this is the peak.
  std::optional<int64_t> device_memory_bytes;
  std::optional<std::string> spike;     // the action taken on a loss spike; no key if there was none
  std::optional<SlowRank> slow_rank;    // no key if there is none
  double time = 0;                      // seconds since the epoch
  Json communication = Json::object();  // axis -> {bytes, calls}, summed over its ranks
};

// Returns the record as a line, without the newline.
std::string line_of(const StepMetrics& record);

// Cuts off a JSON-lines file's records after `step` and an incomplete last line. A missing file is accepted. Fails with
// error 74 if the file cannot be written, 65 if a line before the cut is not a record.
void cut_records_after(const std::string& path, int64_t step);

// Checks that metrics.jsonl and evals.jsonl of `folder` can be cut this way; error 65 as above. Writes nothing.
void require_records(const std::string& folder, int64_t step);

class MetricsFile {
 public:
  // Opens FOLDER/metrics.jsonl of a run that has completed `step`. evals.jsonl in the folder is cut likewise. Error 73.
  MetricsFile(const std::string& folder, int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;

  void append(const StepMetrics& record);  // error 74
  // Returns once everything appended here and to evals.jsonl is on disk. Error 74.
  void sync();

 private:
  std::string path_, evals_path_;
  int descriptor_ = -1;
};

}  // namespace carillon
