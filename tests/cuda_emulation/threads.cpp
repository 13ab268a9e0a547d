// Replaces fibre.cpp and context_switch.cpp for ThreadSanitizer: every thread of a block is an operating system thread,
// so that unordered accesses to shared and global memory are reported, including races that give equal values. 250
// times slower.
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "block.h"

namespace carillon_emulation {
namespace {

// Threads that wait for each other longer than this will never meet.
constexpr std::chrono::seconds kLongestWait{60};

struct Meeting {
  std::mutex mutex;
  std::condition_variable changed;
  int arrived = 0;
  std::uint64_t round = 0;
};
// For the running block: one entry per warp, and a last one for the block, each with a meeting for even and one for odd
// rounds. A thread that wakes late locks the mutex of its round again. If others already used that mutex for the next
// round, this would order their accesses between the two rounds before the late thread's, and hide races.
struct Meetings {
  Meeting of_round[2];
};
std::vector<std::unique_ptr<Meetings>> meetings;
thread_local std::uint64_t warp_rounds = 0, block_rounds = 0;

// The last of `members` threads to arrive calls `last` and releases the others.
template <class Last>
void meet(Meeting& meeting, int members, const char* name, const Place& place, Last last) {
  std::unique_lock lock(meeting.mutex);
  if (++meeting.arrived == members) {
    last();
    meeting.arrived = 0;
    ++meeting.round;
    meeting.changed.notify_all();
    return;
  }
  const std::uint64_t round = meeting.round;
  if (!meeting.changed.wait_for(lock, kLongestWait, [&] { return meeting.round != round; }))
    device_failure("%s (%s:%u) is reached by %d of %d threads only", name, place.file_name(), place.line(),
                   meeting.arrived, members);
}

}  // namespace

void run_threads(Block& block) {
  meetings.clear();
  for (std::size_t i = 0; i <= block.warps.size(); ++i) meetings.push_back(std::make_unique<Meetings>());
  const uint3 block_index = blockIdx;
  const dim3 grid = gridDim, size = blockDim;
  std::vector<std::thread> threads;
  for (Fibre& fibre : block.fibres)
    threads.emplace_back([&block, &fibre, block_index, grid, size] {
      block_of_thread = &block;
      fibre_of_thread = &fibre;
      threadIdx = fibre.thread;
      blockIdx = block_index;
      gridDim = grid;
      blockDim = size;
      block.launch->invoke(block.launch->kernel, block.launch->arguments);
      check_copies_waited_for(fibre);
    });
  for (std::thread& thread : threads) thread.join();
}

void warp_operation(const char* name, Perform perform, void* operand, const Place& place) {
  Block& block = running_block();
  Fibre& me = running_fibre();
  Warp& warp = running_warp();
  me.operand = operand;
  meet(meetings[static_cast<std::size_t>(me.warp)]->of_round[warp_rounds++ % 2], warp.lanes, name, place, [&] {
    void* operands[32] = {};
    for (int i = 0; i < warp.lanes; ++i) operands[i] = block.fibres[static_cast<std::size_t>(warp.first + i)].operand;
    ++warp.counters.warp_operations;
    perform(operands);
  });
}

void block_barrier(const Place& place) {
  meet(meetings.back()->of_round[block_rounds++ % 2], static_cast<int>(running_block().fibres.size()), "__syncthreads",
       place, [] {});
}

}  // namespace carillon_emulation
