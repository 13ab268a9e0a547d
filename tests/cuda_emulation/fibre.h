// Runs the threads of a block as fibres: each has its own stack within one operating system thread, and switches take
// 11 ns. A lane runs until it reaches a warp-wide operation or a barrier; a warp runs until all its lanes are at a
// barrier or have ended; then the next warp runs. This is the greatest skew that the program allows. One block runs at
// a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulation/launch.h"

namespace carillon_emulation {

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  void (*kernel)() = nullptr;
  Invoke invoke = nullptr;
  const void* arguments = nullptr;
};

struct KernelModes {
  bool descending = false;
  bool copies_early = false;
};

// Counters of kernels, summed over the devices of a process.
struct KernelCounters {
  std::uint64_t threads = 0, warp_operations = 0, matrix_products = 0;
  std::uint64_t ldmatrix_phases = 0, ldmatrix_conflicts = 0;  // conflicts: wavefronts beyond one per phase
};

// Runs every block of the grid synchronously. Calls `device_failure` if it detects a fault.
void run_grid(const Launch& launch, const KernelModes& modes, KernelCounters& counters);

// Called by device_failure after printing; must not return.
using FailureHandler = void (*)(const char* message);
void set_failure_handler(FailureHandler handler);

}  // namespace carillon_emulation
