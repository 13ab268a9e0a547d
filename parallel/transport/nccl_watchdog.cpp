#include "parallel/transport/nccl_watchdog.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "runtime/check.h"
#include "runtime/cuda/check_cuda.h"

namespace carillon {
namespace {

using Seconds = std::chrono::duration<double>;
constexpr auto kBetweenLooks = std::chrono::milliseconds(200);
// An operation is not queried while it is younger than this: nearly all have ended by then, and every query takes the
// driver's lock.
constexpr double kYoungSeconds = 1;
// An error that the calling thread also sees is reported by that thread. Only one that it does not see, because it is
// waiting, persists longer than this.
constexpr double kErrorSeconds = 1;
// Maximum number of operations in flight per group. A step has hundreds, and the host is at most one step ahead.
constexpr size_t kMostOperations = 1024;

bool ended(cudaEvent_t event) { return cudaEventQuery(event) != cudaErrorNotReady; }

}  // namespace

EventPool::~EventPool() {
  for (const cudaEvent_t event : free_) cudaEventDestroy(event);
}

cudaEvent_t EventPool::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      const cudaEvent_t event = free_.back();
      free_.pop_back();
      return event;
    }
  }
  cudaEvent_t event = nullptr;
  CHECK_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

void EventPool::give(cudaEvent_t event) {
  const std::lock_guard lock(mutex_);
  free_.push_back(event);
}

NcclOperation::NcclOperation(std::shared_ptr<EventPool> from, const char* name, int64_t count)
    : pool(std::move(from)), what(name), number(count), begin(pool->take()), end(pool->take()) {}

NcclOperation::~NcclOperation() {
  pool->give(begin);
  pool->give(end);
}

std::shared_ptr<NcclWatchdog> NcclWatchdog::of_process() {
  static std::mutex mutex;
  static std::weak_ptr<NcclWatchdog> only;
  const std::lock_guard lock(mutex);
  std::shared_ptr<NcclWatchdog> watchdog = only.lock();
  if (!watchdog) only = watchdog = std::make_shared<NcclWatchdog>();
  return watchdog;
}

NcclWatchdog::NcclWatchdog() : thread_([this] { run(); }) {}

NcclWatchdog::~NcclWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void NcclWatchdog::watch(std::shared_ptr<NcclGroup> group) {
  const std::lock_guard lock(mutex_);
  groups_.push_back({std::move(group), {}, {}});
}

void NcclWatchdog::forget(const NcclGroup& group) {
  const std::lock_guard lock(mutex_);
  groups_.remove_if([&](const Watched& watched) { return watched.group.get() == &group; });
}

void NcclWatchdog::add(const NcclGroup& group, std::shared_ptr<NcclOperation> operation) {
  std::shared_ptr<NcclOperation> oldest;
  {
    const std::lock_guard lock(mutex_);
    const auto watched = std::find_if(groups_.begin(), groups_.end(),
                                      [&](const Watched& candidate) { return candidate.group.get() == &group; });
    CHECK(watched != groups_.end(), "operations are of groups that are watched", operation->what);
    watched->operations.push_back(std::move(operation));
    if (watched->operations.size() <= kMostOperations) return;
    oldest = watched->operations.front();
    watched->operations.pop_front();
  }
  // Not under the lock: if this wait never ends, the watchdog must still be able to run.
  CHECK_CUDA(cudaEventSynchronize(oldest->end));
}

std::string NcclWatchdog::examine(Watched& watched, Clock::time_point now) {
  NcclGroup& group = *watched.group;
  const double timeout = group.timeout_seconds, young = std::min(kYoungSeconds, timeout / 4);
  cudaSetDevice(group.device);  // otherwise the queries below would initialise device 0 for this thread
  if (const char* call = group.call) {
    const double seconds = Seconds(now - group.call_began.load()).count();
    if (seconds >= timeout) return fmt::format("{} has not ended after {:.0f} s", call, seconds);
  }
  // If the rank is inside NCCL, NCCL reports the error to the rank itself.
  if (const std::unique_lock lock(group.calls, std::try_to_lock); lock && group.communicator != nullptr) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(group.communicator, &state);
    if (asked != ncclSuccess) state = asked;
    if (state == ncclSuccess || state == ncclInProgress) {
      watched.error_seen = {};
    } else if (watched.error_seen == Clock::time_point{}) {
      watched.error_seen = now;
    } else if (Seconds(now - watched.error_seen).count() >= kErrorSeconds) {
      const char* what = watched.operations.empty() ? "between operations" : watched.operations.front()->what;
      return fmt::format("NCCL reports \"{}\" ({})", ncclGetErrorString(state), what);
    }
  }
  while (!watched.operations.empty()) {
    NcclOperation& operation = *watched.operations.front();
    if (Seconds(now - operation.called).count() < young) return "";
    if (ended(operation.end)) {
      watched.operations.pop_front();
      continue;
    }
    if (operation.begun == Clock::time_point{} && ended(operation.begin)) operation.begun = now;
    if (operation.begun == Clock::time_point{} || Seconds(now - operation.begun).count() < timeout) return "";
    return fmt::format("{} (number {} of this group) has not ended after {:.0f} s", operation.what, operation.number,
                       Seconds(now - operation.begun).count());
  }
  return "";
}

void NcclWatchdog::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    const Clock::time_point now = Clock::now();
    for (Watched& watched : groups_) {
      const std::string problem = examine(watched, now);
      if (problem.empty()) continue;
      end_process(fmt::format("carillon: error: {}, on {}, look for a rank that died or hangs and start again\n",
                              problem, watched.group->who));
    }
    changed_.wait_for(lock, kBetweenLooks);
  }
}

void NcclWatchdog::end_process(const std::string& message) {
  std::fwrite(message.data(), 1, message.size(), stderr);
  std::fflush(stderr);
  constexpr int kCode = static_cast<int>(ExitCode::kLostPeer);
  // A fallback in case an abort also waits for a peer.
  std::thread([] {
    std::this_thread::sleep_for(std::chrono::seconds(5));
    std::_Exit(kCode);
  }).detach();
  for (const Watched& watched : groups_)
    if (const ncclComm_t communicator = watched.group->communicator) ncclCommAbort(communicator);
  std::_Exit(kCode);
}

}  // namespace carillon
