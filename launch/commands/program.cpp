#include "launch/commands/program.h"

#include <cstdio>

namespace carillon {
namespace {

// How long a failing rank waits for the others to fail too. Errors all ranks have come within milliseconds; one that
// only this rank has must not keep them waiting.
constexpr double kSecondsToFailTogether = 2.0;

}  // namespace

Program::Program() {
  if (!started_under_mpi()) return;
  mpi_ = std::make_unique<MpiEnvironment>();
  rank_ = mpi_->rank();
  ranks_ = mpi_->size();
}

Program::~Program() = default;

std::unique_ptr<Communicator> Program::make_world() { return mpi_ ? mpi_->world() : solo_communicator("world"); }

void Program::warning(const std::string& text) const { std::fprintf(stderr, "carillon: warning: %s\n", text.c_str()); }

std::function<void(const std::string&)> Program::notice() const {
  return [this](const std::string& text) {
    if (main_rank()) warning(text);
  };
}

int Program::leave_with_error(int code, const std::string& message) {
  const bool together = !mpi_ || ranks_ == 1 || mpi_->all_failed(kSecondsToFailTogether);
  if (!together || rank_ == 0) {
    const std::string where = together ? "" : " [rank " + std::to_string(rank_) + "]";
    const size_t end = message.find('\n');
    std::string text = "carillon: error: " + message.substr(0, end) + where + "\n";
    if (end != std::string::npos) text += message.substr(end + 1) + "\n";
    // One write, so that lines of several ranks do not mix.
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
  }
  if (!together) mpi_->abort(code);
  return code;
}

}  // namespace carillon
