// What a terminal shows of a run: how far it is, its loss as a line of blocks, speed, memory by rank, sources, the
// last evaluations. Made from the records of its folder alone, so that a run on another machine is seen as well.
#pragma once

#include <string>
#include <vector>

#include "launch/report/report.h"

namespace carillon {

// How a run is doing, in words for its first line.
enum class RunState { kRunning, kWaiting, kEnded, kFailed };

struct RunView {
  std::string folder;
  RunState state = RunState::kRunning;
  std::string detail;             // of kWaiting and kFailed: why
  std::vector<Json> steps;        // metrics.jsonl
  std::vector<Json> evaluations;  // evals.jsonl
};

// Lines of at most `width` columns, without a newline; text that comes from files is made printable.
std::vector<std::string> lines_of(const RunView& view, size_t width);

// Values as blocks of eight heights between the least and the largest, `width` of them at most, each the mean of its
// stretch; those that are not finite are spaces.
std::string sparkline(const std::vector<double>& values, size_t width);

}  // namespace carillon
