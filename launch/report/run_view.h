// The terminal view of a run: progress, loss as a line of blocks, speed, memory by rank, sources, the last evaluations.
// Made only from the records in its folder, so it also works for a run on another machine.
#pragma once

#include <string>
#include <vector>

#include "launch/report/report.h"

namespace carillon {

// The state of a run, shown in the first line.
enum class RunState { kRunning, kWaiting, kEnded, kFailed };

struct RunView {
  std::string folder;
  RunState state = RunState::kRunning;
  std::string detail;             // for kWaiting and kFailed: the reason
  std::vector<Json> steps;        // metrics.jsonl
  std::vector<Json> evaluations;  // evals.jsonl
};

// Returns lines of at most `width` columns, without newlines; text from files is made printable.
std::vector<std::string> lines_of(const RunView& view, size_t width);

// Returns values as blocks of eight heights between the smallest and the largest: at most `width` blocks, each the mean
// of a stretch of values. Values that are not finite become spaces.
std::string sparkline(const std::vector<double>& values, size_t width);

}  // namespace carillon
