#include "runtime/stop_request.h"

#include <atomic>

#include "runtime/error.h"
#include "runtime/progress.h"

namespace carillon {
namespace {

std::atomic<bool> wanted_{false};
static_assert(std::atomic<bool>::is_always_lock_free, "is stored in a signal handler");

}  // namespace

bool stop_requested() noexcept { return wanted_.load(std::memory_order_relaxed); }
void request_stop(bool wanted) noexcept { wanted_.store(wanted, std::memory_order_relaxed); }

void throw_if_stop_requested(const char* doing) {
  count_progress();
  if (stop_requested())
    fail(ExitCode::kStopped, "stopped by a signal while {}, nothing is lost, the same command does it again", doing);
}

}  // namespace carillon
