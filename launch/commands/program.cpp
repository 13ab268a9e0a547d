#include "launch/commands/program.h"

#include <algorithm>

#include "launch/session/standard_streams.h"
#include "parallel/watch/siblings.h"
#include "runtime/progress.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// How long a failing rank waits for the others to fail too. An error that all ranks have arrives within milliseconds;
// an error of this rank only must not keep the others waiting.
constexpr double kSecondsToFailTogether = 2.0;

}  // namespace

Program::Program() {
  if (!started_under_mpi()) return;
  const Launched launched = launched_as();
  share_progress(launched.rank, launched.ranks, launched.job);
  watch_ = std::make_unique<RankWatch>();
  mpi_ = std::make_unique<MpiEnvironment>();
  rank_ = mpi_->rank();
  ranks_ = mpi_->size();
  watch_->connect(*mpi_->world());
}

Program::~Program() = default;

std::unique_ptr<Communicator> Program::make_world() { return mpi_ ? mpi_->world() : solo_communicator("world"); }

void Program::warning(const std::string& text) const {
  write_to_screen("carillon: warning: " + printable(text) + "\n");
}

void Program::say(const std::string& text) const {
  if (main_rank()) write_to_screen("carillon: " + printable(text) + "\n");
}

std::string error_text(const std::string& message, const std::string& rank) {
  std::string text;
  for (size_t at = 0; at <= message.size();) {
    const size_t end = std::min(message.find('\n', at), message.size());
    const std::string line = printable(std::string_view(message).substr(at, end - at));
    text += at == 0 ? "carillon: error: " + line + rank + "\n" : line + "\n";
    at = end + 1;
  }
  return text;
}

std::function<void(const std::string&)> Program::notice() const {
  return [this](const std::string& text) {
    if (main_rank()) warning(text);
  };
}

int Program::leave_with_error(int code, const std::string& message) {
  const bool together = !mpi_ || ranks_ == 1 || mpi_->all_failed(kSecondsToFailTogether);
  if (code == static_cast<int>(ExitCode::kStopped)) {
    if (rank_ == 0 || !together) write_to_screen("carillon: " + printable(message) + "\n");
  } else if (!together || rank_ == 0) {
    // One write, so that lines of several ranks do not mix.
    write_to_screen(error_text(message, together ? "" : " [rank " + std::to_string(rank_) + "]"));
  }
  RankWatch::expect_exit();
  if (!together) mpi_->abort(code);
  return code;
}

}  // namespace carillon
