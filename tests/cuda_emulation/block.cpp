// Shared by fibres (fibre.cpp) and real threads (threads.cpp): runs the blocks of a grid one after another, sets up
// their shared memory, and reports failures of kernels.
#include "block.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/cuda/ops/tensor_core.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim{};
constinit thread_local dim3 gridDim{};
alignas(4096) unsigned char shared_memory[kEmulatedSharedBytes];

namespace carillon_emulation {

constinit thread_local Block* block_of_thread = nullptr;
constinit thread_local Fibre* fibre_of_thread = nullptr;

namespace {

// Bytes after the dynamic shared memory that are checked for overruns. The check takes 0.1 us per block.
constexpr std::size_t kSharedGuard = 2048;
constexpr unsigned char kGuardByte = 0xA5;

FailureHandler failure_handler = nullptr;

void number_threads(Block& block) {
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
  }
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
  number_threads(block);
  run_threads(block);
  fibre_of_thread = nullptr;
  check_shared_guard(block);
  for (const Warp& warp : block.warps) {
    block.counters.warp_operations += warp.counters.warp_operations;
    block.counters.matrix_products += warp.counters.matrix_products;
    block.counters.ldmatrix_phases += warp.counters.ldmatrix_phases;
    block.counters.ldmatrix_conflicts += warp.counters.ldmatrix_conflicts;
  }
}

}  // namespace

bool same(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

void run_grid(const Launch& launch, const KernelModes& modes, KernelCounters& counters) {
  static thread_local Block kept;  // its fibres' vectors stay allocated
  Block& block = kept;
  block_of_thread = &block;
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
  block_of_thread = nullptr;
  counters.threads += blocks * launch.block.x * launch.block.y * launch.block.z;
  counters.warp_operations += block.counters.warp_operations;
  counters.matrix_products += block.counters.matrix_products;
  counters.ldmatrix_phases += block.counters.ldmatrix_phases;
  counters.ldmatrix_conflicts += block.counters.ldmatrix_conflicts;
}

void set_failure_handler(FailureHandler handler) { failure_handler = handler; }

// The kernel's name if its library exports it, else its offset in the file, for addr2line.
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
  const Block* block = block_of_thread;
  if (block && fibre_of_thread) {
    const uint3 t = fibre_of_thread->thread;
    char kernel[300];
    name_of_kernel(block->launch->kernel, kernel, sizeof(kernel));
    std::snprintf(message, sizeof(message), "emulated device: kernel %s, block (%u,%u,%u) thread (%u,%u,%u): %s",
                  kernel, blockIdx.x, blockIdx.y, blockIdx.z, t.x, t.y, t.z, text);
  } else if (block) {
    char kernel[300];
    name_of_kernel(block->launch->kernel, kernel, sizeof(kernel));
    std::snprintf(message, sizeof(message), "emulated device: kernel %s: %s", kernel, text);
  } else {
    std::snprintf(message, sizeof(message), "emulated device: %s", text);
  }
  std::fprintf(stderr, "%s\n", message);
  if (failure_handler) failure_handler(message);
  std::abort();
}

void require_full_mask(unsigned mask) {
  if (mask != 0xffffffffu) device_failure("a warp operation on part of a warp (mask %#x): full masks only", mask);
}

int lane_index() { return running_fibre().lane; }

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
