// Tracing of a run: the table of `--profile` at its end, and the file of `runtime.trace`, one for all ranks.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "parallel/transport/communicator.h"
#include "runtime/trace.h"

namespace carillon {

class RunTrace {
 public:
  // If neither is requested, every call does nothing. Events are written to PATH.rankN step by step, so that memory
  // does not grow. Throws error 73 if such a file cannot be created. Collective.
  RunTrace(Communicator& world, std::optional<std::string> path, bool profile);

  bool active() const { return trace_ != nullptr; }
  void flush();  // writes the events so far to this rank's file; error 74
  // Merges the ranks' files into one at PATH. Returns rank 0's table line by line; empty on other ranks and without
  // --profile. Collective.
  std::vector<std::string> finish(Communicator& world);

 private:
  std::string part(int rank) const { return *path_ + ".rank" + std::to_string(rank); }

  std::optional<std::string> path_;
  bool profile_;
  std::unique_ptr<Trace> trace_;
  int rank_;
};

}  // namespace carillon
