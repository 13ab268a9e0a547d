#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "nccl_communicator.h"

namespace carillon_emulation {
namespace {

// A rank that never joins has no process to watch, so waits are limited to this many seconds.
constexpr double kLongestWait = 60;

std::atomic<std::uint64_t> next_handle{1};
thread_local bool in_group = false;
thread_local std::vector<ncclComm_t> begun_in_group;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Waits until condition() is true, watching the ranks of `c` that have joined.
template <class Condition>
ncclResult_t wait_for_ranks(ncclComm& c, const std::atomic<bool>& give_up, const char* what, Condition condition) {
  const double end = now() + kLongestWait;
  while (!condition()) {
    if (give_up) return ncclInternalError;
    for (int r = 0; r < c.ranks; ++r)
      if (r != c.rank && c.segment->lost(r) && !condition())
        return nccl_error(ncclRemoteError, "rank %d of %d is gone while %s", r, c.ranks, what);
    if (now() > end) return nccl_error(ncclSystemError, "not all %d ranks came within 60 s for %s", c.ranks, what);
    usleep(200);
  }
  return ncclSuccess;
}

ncclResult_t join(ncclComm& c) {
  c.segment = std::make_unique<Segment>(c.name, c.ranks);
  if (!c.segment->ok()) return nccl_error(ncclSystemError, "%s: %s", c.name.c_str(), std::strerror(errno));
  if (c.segment->header().ranks != c.ranks)
    return nccl_error(ncclInvalidArgument, "ranks disagree on how many they are: %d and %d", c.ranks,
                      c.segment->header().ranks);
  RankSlot& mine = c.segment->slot(c.rank);
  RankState absent = RankState::kAbsent;
  mine.host_process.store(getpid());
  mine.device.store(options_in_force().first_device + c.device);
  if (!mine.state.compare_exchange_strong(absent, RankState::kPresent))
    return nccl_error(ncclInvalidArgument, "two ranks call themselves %d", c.rank);
  AttachCommand command{};
  command.handle = c.handle;
  command.rank = c.rank;
  command.ranks = c.ranks;
  std::strncpy(command.name, c.name.c_str(), sizeof(command.name) - 1);
  cudaError_t error;
  HostState* state = host_state(error);
  if (!state) return ncclUnhandledCudaError;
  {
    std::lock_guard lock(state->mutex);
    command.patience = state->options.patience;
    int result = 0;
    if (request(*state, CommandKind::kAttach, &command, sizeof(command), &result) != cudaSuccess)
      return ncclUnhandledCudaError;
    if (result != 0) return nccl_error(ncclSystemError, "%s: %s", c.name.c_str(), std::strerror(result));
    ++state->nccl_communicators;
  }
  c.segment->header().attached.fetch_add(1);
  ncclResult_t result = wait_for_ranks(c, c.give_up, "a communicator is made",
                                       [&c] { return c.segment->header().attached.load() == c.ranks; });
  // Refuse it as NCCL before 2.30 does ("Duplicate GPU detected").
  for (int r = 0; r < c.ranks && result == ncclSuccess; ++r)
    if (r != c.rank && c.segment->slot(r).device.load() == mine.device.load())
      result = nccl_error(ncclInvalidUsage, "ranks %d and %d have one device", c.rank, r);
  c.segment->unlink();
  return result;
}

// Calls making(c), which creates the communicator; in a thread if c is non-blocking or inside a group.
template <class Making>
ncclResult_t begin(ncclComm_t c, Making making) {
  const auto make = [c, making] {
    const ncclResult_t result = making(*c);
    c->state.store(result);
  };
  if (c->blocking && !in_group) {
    make();
    return c->state.load();
  }
  c->maker = std::thread(make);
  if (in_group) begun_in_group.push_back(c);
  return c->blocking ? ncclSuccess : ncclInProgress;
}

}  // namespace

ncclResult_t make_communicator(ncclComm_t* made, const std::string& name, int rank, int ranks, bool blocking) {
  cudaError_t error;
  if (!host_state(error)) return nccl_error(ncclUnhandledCudaError, "%s", cudaGetErrorString(error));
  auto* c = new ncclComm;
  c->name = name;
  c->rank = rank;
  c->ranks = ranks;
  c->device = current_device();
  c->blocking = blocking;
  c->handle = next_handle.fetch_add(1);
  *made = c;
  return begin(c, join);
}

ncclResult_t split_communicator(ncclComm_t parent, int color, int key, ncclComm_t* made, bool blocking) {
  const std::uint64_t round = ++parent->splits;
  SplitVote& mine = parent->segment->slot(parent->rank).votes[round % 2];
  mine.color = color;
  mine.key = key;
  mine.round.store(round);
  ncclComm* c = nullptr;
  if (color != NCCL_SPLIT_NOCOLOR) {
    c = new ncclComm;
    c->device = parent->device;
    c->blocking = blocking;
    c->handle = next_handle.fetch_add(1);
  }
  *made = c;
  const auto making = [parent, round, color](ncclComm& fresh) {
    const auto all_voted = [parent, round] {
      for (int r = 0; r < parent->ranks; ++r)
        if (parent->segment->slot(r).votes[round % 2].round.load() != round) return false;
      return true;
    };
    if (const ncclResult_t result = wait_for_ranks(*parent, fresh.give_up, "it is split", all_voted);
        result != ncclSuccess)
      return result;
    std::vector<std::pair<int, int>> members;  // key, rank in the parent
    for (int r = 0; r < parent->ranks; ++r) {
      const SplitVote& vote = parent->segment->slot(r).votes[round % 2];
      if (vote.color == color) members.emplace_back(vote.key, r);
    }
    std::sort(members.begin(), members.end());
    fresh.ranks = static_cast<int>(members.size());
    for (int r = 0; r < fresh.ranks; ++r)
      if (members[r].second == parent->rank) fresh.rank = r;
    fresh.name = parent->name + "-" + std::to_string(round) + "." + std::to_string(color);
    return join(fresh);
  };
  if (c) return begin(c, making);
  return ncclSuccess;  // without a color, the others need only this rank's vote
}

void open_group_of_makings() { in_group = true; }

ncclResult_t close_group_of_makings() {
  in_group = false;
  ncclResult_t result = ncclSuccess;
  for (ncclComm_t c : begun_in_group) {
    if (!c->blocking) {
      if (result == ncclSuccess) result = ncclInProgress;
      continue;
    }
    c->maker.join();
    if (c->state.load() != ncclSuccess) result = c->state.load();
  }
  begun_in_group.clear();
  return result;
}

}  // namespace carillon_emulation
