// metrics.jsonl: one record a step, appended and flushed; numbers with 17 significant digits, so that they come back as
// the doubles they were.
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
  int64_t step = 0;                 // completed, from 1
  std::optional<double> loss;       // nothing: no targets, or not finite
  std::optional<double> grad_norm;  // before clipping
  // With train.loss longce: the mean cross-entropy without its weights, and their mean. No keys otherwise.
  std::optional<double> cross_entropy, longce_weight;
  double lr = 0;
  int64_t tokens = 0;  // target tokens of the step
  int64_t tokens_total = 0;
  std::vector<std::pair<std::string, int64_t>> tokens_by_source;  // of `tokens`; empty, and no key, where none is named
  double seconds = 0;
  double tokens_per_second = 0;
  int64_t peak_memory_bytes = 0;        // of the largest rank: what the process took of the host's memory
  std::vector<int64_t> memory_by_rank;  // the same of every rank; only in records where one grew by a hundredth
  int64_t max_steps = 0;                // of the run, as it is now
  // Taken on the fullest device after the step, by libraries too; nothing where memory is the host's, no key then. No
  // op gives memory back within a step, so this is the peak.
  std::optional<int64_t> device_memory_bytes;
  std::optional<std::string> spike;     // what was done about a loss that spiked; no key where it did not
  std::optional<SlowRank> slow_rank;    // no key where none is
  double time = 0;                      // seconds since the epoch
  Json communication = Json::object();  // axis -> {bytes, calls}, over all its ranks
};

// The record as its line, without the newline.
std::string line_of(const StepMetrics& record);

// Cuts the records of a JSON-lines file past `step`, and an incomplete last line. A file that is not there is fine.
// Error 74 when it cannot be written, 65 when a line before the cut is no record.
void cut_records_after(const std::string& path, int64_t step);

// Whether metrics.jsonl and evals.jsonl of `folder` can be cut so: error 65 as above; nothing is written.
void require_records(const std::string& folder, int64_t step);

class MetricsFile {
 public:
  // FOLDER/metrics.jsonl of a run that has completed `step`; evals.jsonl beside it is cut likewise. Error 73.
  MetricsFile(const std::string& folder, int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;

  void append(const StepMetrics& record);  // error 74
  // What was appended here and to evals.jsonl is on the disk when this returns. Error 74.
  void sync();

 private:
  std::string path_, evals_path_;
  int descriptor_ = -1;
};

}  // namespace carillon
