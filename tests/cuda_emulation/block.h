// A running block and its threads, grouped by warps. block.cpp runs blocks; fibre.cpp, or threads.cpp for
// ThreadSanitizer, runs the threads of a block.
#pragma once

#include <source_location>
#include <vector>

#include "context_switch.h"
#include "emulation/warp.h"
#include "fibre.h"

namespace carillon_emulation {

struct PendingCopy {
  void* shared;
  const void* global;
  bool valid;
};

// cp.async of one thread: `copies` in the order issued; group i ends before copies[groups[i]].
struct AsyncCopies {
  std::vector<PendingCopy> copies;
  std::vector<std::size_t> groups;
};

struct Fibre {
  enum class State { kReady, kAtWarpOperation, kAtBarrier, kEnded };
  Context context;
  State state = State::kReady;
  uint3 thread{};
  int lane = 0, warp = 0;
  void* operand = nullptr;
  Place barrier;
  AsyncCopies copies;
};

struct Warp {
  int first = 0, lanes = 0;  // its fibres
  std::uint32_t ready = 0;   // bit per lane: whether it is in State::kReady
  int arrived = 0;           // lanes that have reached the current operation
  const char* operation = nullptr;
  Place place;
  KernelCounters counters;
};

struct Block {
  std::vector<Fibre> fibres;
  std::vector<Warp> warps;
  Context scheduler;
  bool scheduler_switched = false;  // whether the current fibre was entered from the scheduler
  const Launch* launch = nullptr;
  KernelModes modes;
  KernelCounters counters;
};

// The block, and its thread, that this operating system thread is running; nullptr between kernels.
extern constinit thread_local Block* block_of_thread;
extern constinit thread_local Fibre* fibre_of_thread;
inline Block& running_block() { return *block_of_thread; }
inline Fibre& running_fibre() { return *fibre_of_thread; }
inline Warp& running_warp() { return block_of_thread->warps[static_cast<std::size_t>(fibre_of_thread->warp)]; }

// Runs all threads of the block to their end.
void run_threads(Block& block);
// Whether two calls are at the same place in the source.
bool same(const Place& a, const Place& b);

// Ends the kernel with a failure if the thread never waited for some of its copies (tensor_core.cpp).
void check_copies_waited_for(Fibre& fibre);

}  // namespace carillon_emulation
