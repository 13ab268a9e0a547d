// The page of a run or a sweep, made from the files in its folder: training curves, metrics by length and rope setting,
// loss by position, heat maps, the rotation's wavelengths, facts of the runs. Nothing but the records is needed, so a
// page can be made again at any time, elsewhere.
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
  std::string configuration;  // config.yaml as it stands
};

struct ReportInput {
  std::string title;
  std::vector<Json> records;  // evals.jsonl, the last of each point, in order
  std::vector<ReportRun> runs;
  std::vector<std::pair<std::string, RopeReport>> ropes;
  Json comparisons;  // comparisons.json; null where there is none
};

// `folder`: of a sweep or a run, or an evals.jsonl or metrics.jsonl. Runs and models that records name are looked at
// where they are still there. Errors: 66 nothing there, 65 a line that is no record.
ReportInput read_results(const std::string& folder);

std::string report_html(const ReportInput& input);

}  // namespace carillon
