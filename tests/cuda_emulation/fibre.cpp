#include "fibre.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "block.h"
#include "runtime/cuda/tensor_core.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};
alignas(4096) unsigned char shared_memory[kEmulatedSharedBytes];

namespace carillon_emulation {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kStackBytes = 512 * 1024;
#else
constexpr std::size_t kStackBytes = 128 * 1024;
#endif
constexpr std::size_t kPage = 4096;
constexpr int kMostThreads = 1024;
// Behind the dynamic shared memory: what an overrun destroys. Its check costs 0.1 us a block.
constexpr std::size_t kSharedGuard = 2048;
constexpr unsigned char kGuardByte = 0xA5;

FailureHandler failure_handler = nullptr;

// Stacks for the threads of one block, each with a page below it that may not be touched.
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
  block.current = &fibre;
  threadIdx = fibre.thread;
  switch_context(from, fibre.context);
}

Fibre* next_ready(Block& block, const Warp& warp) {
  for (int i = 0; i < warp.lanes; ++i) {
    Fibre& fibre = block.fibres[warp.first + (block.modes.descending ? warp.lanes - 1 - i : i)];
    if (fibre.state == Fibre::State::kReady) return &fibre;
  }
  return nullptr;
}

// Lets the other lanes of the warp go on, and the scheduler when none can.
void give_way(Block& block, Fibre& me, bool for_good) {
  Fibre* next = next_ready(block, block.warps[me.warp]);
  if (next && !for_good) return enter(block, *next, me.context);
  if (!for_good) return switch_context(me.context, block.scheduler);
  if (next) {
    block.scheduler_switched = false;
    block.current = next;
    threadIdx = next->thread;
  }
  leave_for_good(me.context, next ? next->context : block.scheduler);
}

void fibre_entry() {
  Block& block = running_block();
  entered(block.scheduler, block.scheduler_switched);
  block.launch->invoke(block.launch->kernel, block.launch->arguments);
  Fibre& me = *block.current;
  check_copies_waited_for(me);
  me.state = Fibre::State::kEnded;
  give_way(block, me, true);
}

void start_block(Block& block) {
  const dim3 size = block.launch->block;
  const int threads = static_cast<int>(size.x * size.y * size.z);
  block.fibres.resize(threads);
  block.warps.resize((threads + 31) / 32);
  for (std::size_t w = 0; w < block.warps.size(); ++w) {
    block.warps[w] = Warp{};
    block.warps[w].first = static_cast<int>(w) * 32;
    block.warps[w].lanes = std::min(32, threads - static_cast<int>(w) * 32);
  }
  for (int i = 0; i < threads; ++i) {
    Fibre& fibre = block.fibres[i];
    fibre.state = Fibre::State::kReady;
    fibre.lane = i % 32;
    fibre.warp = i / 32;
    fibre.thread = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    fibre.copies.copies.clear();
    fibre.copies.groups.clear();
    prepare(fibre.context, stack_of(i), kStackBytes - kPage, fibre_entry);
  }
}

// Runs the warp as far as it goes: every lane then stands at a barrier or has ended.
void run_warp(Block& block, Warp& warp) {
  while (Fibre* next = next_ready(block, warp)) enter(block, *next, block.scheduler);
  if (warp.arrived == 0) return;
  int ended = 0, at_barrier = 0;
  for (int i = 0; i < warp.lanes; ++i) {
    const Fibre& fibre = block.fibres[warp.first + i];
    ended += fibre.state == Fibre::State::kEnded;
    at_barrier += fibre.state == Fibre::State::kAtBarrier;
    if (fibre.state == Fibre::State::kAtWarpOperation) block.current = &block.fibres[warp.first + i];
  }
  device_failure("%s (%s:%u) is reached by %d of the warp's %d lanes only: %d have returned, %d stand at __syncthreads",
                 warp.operation, warp.place.file_name(), warp.place.line(), warp.arrived, warp.lanes, ended,
                 at_barrier);
}

bool same(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

// True when the block has ended; otherwise opens the barrier where all its threads stand.
bool open_barrier(Block& block) {
  int ended = 0;
  Fibre* waiting = nullptr;
  for (Fibre& fibre : block.fibres) {
    if (fibre.state == Fibre::State::kEnded) {
      ++ended;
      continue;
    }
    if (waiting && !same(waiting->barrier, fibre.barrier)) {
      block.current = &fibre;
      device_failure("threads stand at different barriers: %s:%u and %s:%u", waiting->barrier.file_name(),
                     waiting->barrier.line(), fibre.barrier.file_name(), fibre.barrier.line());
    }
    waiting = &fibre;
  }
  if (!waiting) return true;
  block.current = waiting;
  if (ended > 0)
    device_failure("__syncthreads (%s:%u) is reached by %zu of %zu threads only: the others have returned",
                   waiting->barrier.file_name(), waiting->barrier.line(), block.fibres.size() - ended,
                   block.fibres.size());
  for (Fibre& fibre : block.fibres) fibre.state = Fibre::State::kReady;
  return false;
}

std::size_t guard_bytes(std::size_t used) { return std::min(kSharedGuard, kEmulatedSharedBytes - used); }

void check_shared_guard(const Block& block) {
  const std::size_t used = block.launch->shared_bytes;
  for (std::size_t i = 0; i < guard_bytes(used); ++i)
    if (shared_memory[used + i] != kGuardByte)
      device_failure("shared memory was written at byte %zu; the launch asked for %zu bytes", used + i, used);
}

void run_block(Block& block) {
  std::memset(shared_memory, 0xFF, block.launch->shared_bytes);
  start_block(block);
  const std::size_t warps = block.warps.size();
  do {
    for (std::size_t i = 0; i < warps; ++i) run_warp(block, block.warps[block.modes.descending ? warps - 1 - i : i]);
  } while (!open_barrier(block));
  block.current = nullptr;
  check_shared_guard(block);
}

}  // namespace

Block& running_block() {
  static thread_local Block block;
  return block;
}

void run_grid(const Launch& launch, const KernelModes& modes, KernelCounters& counters) {
  Block& block = running_block();
  block.launch = &launch;
  block.modes = modes;
  block.counters = {};
  gridDim = launch.grid;
  blockDim = launch.block;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(shared_memory, kEmulatedSharedBytes);
#endif
  std::memset(shared_memory + launch.shared_bytes, kGuardByte, guard_bytes(launch.shared_bytes));
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(shared_memory + launch.shared_bytes + guard_bytes(launch.shared_bytes),
                              kEmulatedSharedBytes - launch.shared_bytes - guard_bytes(launch.shared_bytes));
#endif
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t b = modes.descending ? blocks - 1 - i : i;
    blockIdx = {static_cast<unsigned>(b % launch.grid.x), static_cast<unsigned>(b / launch.grid.x % launch.grid.y),
                static_cast<unsigned>(b / launch.grid.x / launch.grid.y)};
    run_block(block);
  }
  block.launch = nullptr;
  counters.threads += blocks * launch.block.x * launch.block.y * launch.block.z;
  counters.warp_operations += block.counters.warp_operations;
  counters.matrix_products += block.counters.matrix_products;
  counters.ldmatrix_phases += block.counters.ldmatrix_phases;
  counters.ldmatrix_conflicts += block.counters.ldmatrix_conflicts;
}

void set_failure_handler(FailureHandler handler) { failure_handler = handler; }

// The kernel's name where its library exports it, else its place in the file, for addr2line.
static void name_of_kernel(void (*kernel)(), char* text, std::size_t size) {
  Dl_info place{};
  if (dladdr(reinterpret_cast<void*>(kernel), &place) == 0) {
    std::snprintf(text, size, "at %p", reinterpret_cast<void*>(kernel));
  } else if (!place.dli_sname) {
    std::snprintf(text, size, "%s+%#tx", place.dli_fname,
                  reinterpret_cast<char*>(kernel) - static_cast<char*>(place.dli_fbase));
  } else {
    int status = 0;
    char* readable = abi::__cxa_demangle(place.dli_sname, nullptr, nullptr, &status);
    std::snprintf(text, size, "%s", status == 0 ? readable : place.dli_sname);
    std::free(readable);
  }
}

void device_failure(const char* format, ...) {
  char text[400];
  va_list list;
  va_start(list, format);
  std::vsnprintf(text, sizeof(text), format, list);
  va_end(list);
  char message[1000];
  const Block& block = running_block();
  if (block.launch && block.current) {
    const uint3 t = block.current->thread;
    char kernel[300];
    name_of_kernel(block.launch->kernel, kernel, sizeof(kernel));
    std::snprintf(message, sizeof(message), "emulated device: kernel %s, block (%u,%u,%u) thread (%u,%u,%u): %s",
                  kernel, blockIdx.x, blockIdx.y, blockIdx.z, t.x, t.y, t.z, text);
  } else if (block.launch) {
    char kernel[300];
    name_of_kernel(block.launch->kernel, kernel, sizeof(kernel));
    std::snprintf(message, sizeof(message), "emulated device: kernel %s: %s", kernel, text);
  } else {
    std::snprintf(message, sizeof(message), "emulated device: %s", text);
  }
  std::fprintf(stderr, "%s\n", message);
  if (failure_handler) failure_handler(message);
  std::abort();
}

void warp_operation(const char* name, Perform perform, void* operand, const Place& place) {
  Block& block = running_block();
  Fibre& me = *block.current;
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
    me.state = Fibre::State::kAtWarpOperation;
    return give_way(block, me, false);
  }
  void* operands[32] = {};
  for (int i = 0; i < warp.lanes; ++i) {
    operands[i] = block.fibres[warp.first + i].operand;
    block.fibres[warp.first + i].state = Fibre::State::kReady;
  }
  warp.arrived = 0;
  ++block.counters.warp_operations;
  perform(operands);
}

void block_barrier(const Place& place) {
  Block& block = running_block();
  Fibre& me = *block.current;
  me.barrier = place;
  me.state = Fibre::State::kAtBarrier;
  give_way(block, me, false);
}

void require_full_mask(unsigned mask) {
  if (mask != 0xffffffffu) device_failure("a warp operation on part of a warp (mask %#x): full masks only", mask);
}

int lane_index() { return running_block().current->lane; }

unsigned vote(const char* name, unsigned mask, int predicate, const Place& place) {
  require_full_mask(mask);
  VoteOperand operand{predicate, 0};
  const auto perform = [](void* const* operands) {
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; ++lane)
      if (operands[lane] && static_cast<VoteOperand*>(operands[lane])->predicate) ballot |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
      if (operands[lane]) static_cast<VoteOperand*>(operands[lane])->ballot = ballot;
  };
  warp_operation(name, perform, &operand, place);
  return operand.ballot;
}

}  // namespace carillon_emulation
