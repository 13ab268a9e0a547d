// The threads of a block as fibres: stacks of their own in one operating system thread, switched by hand (11 ns). A
// lane runs until it meets a warp-wide operation or a barrier; a warp runs until all its lanes stand at a barrier or
// have ended; then the next warp does: the greatest skew that the program allows. One block at a time.
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

// What kernels did, summed over a process's devices.
struct KernelCounters {
  std::uint64_t threads = 0, warp_operations = 0, matrix_products = 0;
  std::uint64_t ldmatrix_phases = 0, ldmatrix_conflicts = 0;  // conflicts: wavefronts beyond one a phase
};

// Runs every block of the grid, here and now. A mistake found ends in `device_failure`.
void run_grid(const Launch& launch, const KernelModes& modes, KernelCounters& counters);

// What device_failure does after printing; it must not return.
using FailureHandler = void (*)(const char* message);
void set_failure_handler(FailureHandler handler);

}  // namespace carillon_emulation
