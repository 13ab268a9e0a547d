// The report page of a run or a sweep, made from the files in its folder: training curves, metrics by length and rope
// setting, loss by position, heat maps, wavelengths of the rotation, facts of the runs. It needs only the records, so a
// page can be made again at any time and place.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/rope_report.h"

namespace carillon {

using Json = nlohmann::ordered_json;

struct ReportRun {
  std::string name;
  std::vector<Json> steps;    // metrics.jsonl
  std::string configuration;  // contents of config.yaml
};

struct ReportInput {
  std::string title;
  std::vector<Json> records;  // evals.jsonl: the last record of each point, in order
  int64_t superseded = 0;     // points left out: made when a rope's or task's name stood for other settings
  std::vector<ReportRun> runs;
  std::vector<std::pair<std::string, RopeReport>> ropes;
  Json comparisons;  // comparisons.json; null if there is none
};

// Reads the results of `folder`: a sweep's or run's folder, or an evals.jsonl or metrics.jsonl. Runs and models named
// in records are read too if they still exist. Fails with error 66 if nothing is there, 65 if a line is not a record.
ReportInput read_results(const std::string& folder);

std::string report_html(const ReportInput& input);

}  // namespace carillon
