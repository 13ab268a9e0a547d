// Counts what the emulated devices of this process have done since they were started, to compare with a plan.
#pragma once

#include <cstdint>

struct CarillonEmulationCounters {
  std::uint64_t launches;          // kernels; products of cuBLASLt are counted separately
  std::uint64_t products;          // cublasLtMatmul
  std::uint64_t slow_products;     // of those, with another algorithm than the fastest (algorithms=N:FASTEST)
  std::uint64_t product_searches;  // cublasLtMatmulAlgoGetHeuristic
  std::uint64_t allocations;       // cudaMalloc
  std::uint64_t allocated_bytes;   // current
  std::uint64_t peak_bytes;
  std::uint64_t host_to_device_bytes, device_to_host_bytes, device_to_device_bytes;
  std::uint64_t fills;             // cudaMemset
  std::uint64_t registered_bytes;  // cudaHostRegister
  std::uint64_t events_recorded, event_waits, host_waits;
  std::uint64_t nccl_operations;                       // collectives, sends and receives
  std::uint64_t nccl_communicators, nccl_connections;  // created; connected pairs of ranks, per direction
  std::uint64_t nccl_threads;                          // started by non-blocking communicators, one per group of calls
  std::uint64_t nccl_sent_bytes;  // by ncclSend, and what a ring would send for collectives (README.md)
  std::uint64_t warp_operations, matrix_products, ldmatrix_phases, ldmatrix_conflicts;
};

extern "C" {
// Does not wait for devices: synchronise first.
void carillon_emulation_counters(CarillonEmulationCounters* counters);
// The message that was printed when a device failed; empty if none has.
const char* carillon_emulation_message();
}
