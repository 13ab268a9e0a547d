// The results of a sweep: evals.jsonl, one record per finished point (a point's last record counts), and files made
// from it: a table on the screen, table.csv, lm_eval.json, comparisons.json and report.html.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "launch/evaluate/sweep_config.h"

namespace carillon {

class SweepResults {
 public:
  explicit SweepResults(std::string folder) : folder_(std::move(folder)) {}

  // Returns the last record of each point. Reads only what was appended since the last call, because other processes
  // append too and the cost between two points must not grow with the points done. Error 65 for a line that is not a
  // record.
  const std::map<std::string, Json>& read() const;
  // Returns all records, including those that belong to no point.
  std::vector<Json> read_lines() const;
  // Appends under the folder's lock. First removes an incomplete last line, left by a process that died. Error 74.
  void append(const Json& record) const;

  // Writes the files for the finished points, each atomically. `comparisons`: from compare_points().
  void write_files(const std::vector<SweepPoint>& points, const Json& comparisons) const;
  // Returns tasks × (models, rope) × lengths with the main metric of each task.
  std::string table(const SweepConfig& config, const std::vector<SweepPoint>& points) const;

 private:
  std::string folder_;
  mutable std::map<std::string, Json> records_;
  mutable int64_t read_to_ = 0, lines_ = 0;  // bytes and lines of evals.jsonl read into records_
};

// Whether a record was made with the model that is there now, not with one that it replaced.
bool is_of_model(const Json& record, const SweepPoint& point);
// Whether a record is the finished result of a point, with the model and the files that are there now.
bool is_result_of(const Json& record, const SweepPoint& point);
// Return a point's record, done or failed; point_runner.h runs the point.
Json record_of(const SweepPoint& point, const Json& metrics, double seconds);
Json failure_of(const SweepPoint& point, const std::string& error, double seconds);

// The metric that represents a task ("perplexity", "ood_accuracy").
std::string main_metric(const Json& task);

}  // namespace carillon
