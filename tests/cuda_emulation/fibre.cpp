#include "fibre.h"

#include <sys/mman.h>

#include <bit>

#include "block.h"

namespace carillon_emulation {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 512 * 1024;
#else
constexpr std::size_t kStackBytes = 128 * 1024;
#endif
constexpr std::size_t kPage = 4096;
constexpr int kMostThreads = 1024;

// Stacks for the threads of one block, each with an inaccessible page below it.
char* stack_of(int fibre) {
  static thread_local char* stacks = nullptr;
  if (!stacks) {
    const std::size_t bytes = kMostThreads * kStackBytes;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) device_failure("no memory for the threads' stacks");
    stacks = static_cast<char*>(memory);
    for (int i = 0; i < kMostThreads; ++i) mprotect(stacks + i * kStackBytes, kPage, PROT_NONE);
  }
  return stacks + fibre * kStackBytes + kPage;
}

void enter(Block& block, Fibre& fibre, Context& from) {
  block.scheduler_switched = &from == &block.scheduler;
  fibre_of_thread = &fibre;
  threadIdx = fibre.thread;
  switch_context(from, fibre.context);
}

Fibre* next_ready(Block& block, const Warp& warp) {
  if (warp.ready == 0) return nullptr;
  const int lane = block.modes.descending ? 31 - std::countl_zero(warp.ready) : std::countr_zero(warp.ready);
  return &block.fibres[warp.first + lane];
}

std::uint32_t all_lanes(const Warp& warp) { return warp.lanes == 32 ? ~0u : (1u << warp.lanes) - 1; }

void leave_ready(Block& block, Fibre& fibre, Fibre::State state) {
  fibre.state = state;
  block.warps[fibre.warp].ready &= ~(1u << fibre.lane);
}

// Switches to another ready lane of the warp, or to the scheduler if there is none.
void give_way(Block& block, Fibre& me, bool for_good) {
  Fibre* next = next_ready(block, block.warps[me.warp]);
  if (next && !for_good) return enter(block, *next, me.context);
  if (!for_good) return switch_context(me.context, block.scheduler);
  if (next) {
    block.scheduler_switched = false;
    fibre_of_thread = next;
    threadIdx = next->thread;
  }
  leave_for_good(me.context, next ? next->context : block.scheduler);
}

void fibre_entry() {
  Block& block = running_block();
  entered(block.scheduler, block.scheduler_switched);
  block.launch->invoke(block.launch->kernel, block.launch->arguments);
  Fibre& me = running_fibre();
  check_copies_waited_for(me);
  leave_ready(block, me, Fibre::State::kEnded);
  give_way(block, me, true);
}

// Runs the warp until every lane is at a barrier or has ended.
void run_warp(Block& block, Warp& warp) {
  while (Fibre* next = next_ready(block, warp)) enter(block, *next, block.scheduler);
  if (warp.arrived == 0) return;
  int ended = 0, at_barrier = 0;
  for (int i = 0; i < warp.lanes; ++i) {
    const Fibre& fibre = block.fibres[warp.first + i];
    ended += fibre.state == Fibre::State::kEnded;
    at_barrier += fibre.state == Fibre::State::kAtBarrier;
    if (fibre.state == Fibre::State::kAtWarpOperation) fibre_of_thread = &block.fibres[warp.first + i];
  }
  device_failure("%s (%s:%u) is reached by %d of the warp's %d lanes only: %d have returned, %d stand at __syncthreads",
                 warp.operation, warp.place.file_name(), warp.place.line(), warp.arrived, warp.lanes, ended,
                 at_barrier);
}

// Returns true if the block has ended; otherwise opens the barrier at which all its threads wait.
bool open_barrier(Block& block) {
  int ended = 0;
  Fibre* waiting = nullptr;
  for (Fibre& fibre : block.fibres) {
    if (fibre.state == Fibre::State::kEnded) {
      ++ended;
      continue;
    }
    if (waiting && !same(waiting->barrier, fibre.barrier)) {
      fibre_of_thread = &fibre;
      device_failure("threads stand at different barriers: %s:%u and %s:%u", waiting->barrier.file_name(),
                     waiting->barrier.line(), fibre.barrier.file_name(), fibre.barrier.line());
    }
    waiting = &fibre;
  }
  if (!waiting) return true;
  fibre_of_thread = waiting;
  if (ended > 0)
    device_failure("__syncthreads (%s:%u) is reached by %zu of %zu threads only: the others have returned",
                   waiting->barrier.file_name(), waiting->barrier.line(), block.fibres.size() - ended,
                   block.fibres.size());
  for (Fibre& fibre : block.fibres) fibre.state = Fibre::State::kReady;
  for (Warp& warp : block.warps) warp.ready = all_lanes(warp);
  return false;
}

}  // namespace

void run_threads(Block& block) {
  for (std::size_t i = 0; i < block.fibres.size(); ++i)
    prepare(block.fibres[i].context, stack_of(static_cast<int>(i)), kStackBytes - kPage, fibre_entry);
  const std::size_t warps = block.warps.size();
  for (Warp& warp : block.warps) warp.ready = all_lanes(warp);
  do {
    for (std::size_t i = 0; i < warps; ++i) run_warp(block, block.warps[block.modes.descending ? warps - 1 - i : i]);
  } while (!open_barrier(block));
}

void warp_operation(const char* name, Perform perform, void* operand, const Place& place) {
  Block& block = running_block();
  Fibre& me = running_fibre();
  Warp& warp = block.warps[me.warp];
  if (warp.arrived == 0) {
    warp.operation = name;
    warp.place = place;
  } else if (warp.operation != name || !same(warp.place, place)) {
    device_failure("lanes of a warp stand at different operations: %s (%s:%u) and %s (%s:%u)", warp.operation,
                   warp.place.file_name(), warp.place.line(), name, place.file_name(), place.line());
  }
  me.operand = operand;
  if (++warp.arrived < warp.lanes) {
    leave_ready(block, me, Fibre::State::kAtWarpOperation);
    return give_way(block, me, false);
  }
  void* operands[32] = {};
  for (int i = 0; i < warp.lanes; ++i) {
    operands[i] = block.fibres[warp.first + i].operand;
    block.fibres[warp.first + i].state = Fibre::State::kReady;
  }
  warp.ready = all_lanes(warp);
  warp.arrived = 0;
  ++warp.counters.warp_operations;
  perform(operands);
}

void block_barrier(const Place& place) {
  Block& block = running_block();
  Fibre& me = running_fibre();
  me.barrier = place;
  leave_ready(block, me, Fibre::State::kAtBarrier);
  give_way(block, me, false);
}

}  // namespace carillon_emulation
