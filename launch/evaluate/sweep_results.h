// What a sweep leaves: evals.jsonl, one record a finished point (the last of a point counts), and from it a table on
// the screen, table.csv, lm_eval.json, comparisons.json and report.html.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

class SweepResults {
 public:
  explicit SweepResults(std::string folder) : folder_(std::move(folder)) {}

  // The last record of each point. Only what was appended since the last call is read: other processes append too, and
  // asking between thousands of points must not cost more the more are done. Error 65 for a line that is no record.
  const std::map<std::string, Json>& read() const;
  // Every record there is, of points or not.
  std::vector<Json> read_lines() const;
  // Appends under the folder's lock; a cut last line, of a process that died, is removed first. Error 74.
  void append(const Json& record) const;

  // For the points that are done; `comparisons` as compare_points() gives them. Each file whole or not at all.
  void write_files(const std::vector<SweepPoint>& points, const Json& comparisons) const;
  // Tasks × (models, rope) × lengths, the main metric of each task.
  std::string table(const SweepConfig& config, const std::vector<SweepPoint>& points) const;

 private:
  std::string folder_;
  mutable std::map<std::string, Json> records_;
  mutable int64_t read_to_ = 0, lines_ = 0;  // bytes and lines of evals.jsonl that records_ holds
};

// A point's record, done or failed; point_runner.h runs the point.
Json record_of(const SweepPoint& point, const Json& metrics, double seconds);
Json failure_of(const SweepPoint& point, const std::string& error, double seconds);

// The metric a task is read by ("perplexity", "ood_accuracy").
std::string main_metric(const Json& task);

}  // namespace carillon
