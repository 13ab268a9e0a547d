#include "launch/train/run_trace.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "data/files/output_file.h"

namespace carillon {

RunTrace::RunTrace(Communicator& world, std::optional<std::string> path, bool profile)
    : path_(std::move(path)), profile_(profile), rank_(world.rank()) {
  if (!path_ && !profile_) return;
  agree(world, [&] {
    if (!path_) return;
    if (!std::ofstream(part(rank_), std::ios::trunc))
      fail(ExitCode::kCannotCreate, "the trace cannot be created, {}, name another runtime.trace", part(rank_));
  });
  trace_ = std::make_unique<Trace>(rank_, path_.has_value());
}

void RunTrace::flush() {
  if (!path_) return;
  std::ofstream file(part(rank_), std::ios::app);
  file << trace_->take_events_json();
  file.close();
  if (!file) fail(ExitCode::kInputOutput, "the trace cannot be written, {}, make room", part(rank_));
}

std::vector<std::string> RunTrace::finish(Communicator& world) {
  if (!active()) return {};
  std::vector<std::string> table;
  if (profile_ && rank_ == 0) {
    table = profile_table(trace_->entries(), trace_->seconds());
    table.insert(table.begin(), fmt::format("where rank 0 of {} spent its time:", world.size()));
  }
  if (path_) {
    agree(world, [&] { flush(); });
    agree(world, [&] {
      if (rank_ != 0) return;
      OutputFile whole(*path_);
      whole.write("[\n");
      for (int rank = 0; rank < world.size(); ++rank) {
        // A part written to another machine's disk stays there.
        std::ifstream file(part(rank));
        for (std::string line; std::getline(file, line);) whole.write(line + "\n");
        whole.write(fmt::format(
            "{{\"ph\":\"M\",\"pid\":{0},\"name\":\"process_name\",\"args\":{{\"name\":\"rank {0}\"}}}}{1}\n", rank,
            rank + 1 < world.size() ? "," : ""));
      }
      whole.write("]\n");
      whole.commit();
      for (int rank = 0; rank < world.size(); ++rank) std::filesystem::remove(part(rank));
    });
  }
  trace_.reset();
  return table;
}

}  // namespace carillon
