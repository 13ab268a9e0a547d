// Compiled into libcarillon_cuda_emulated.so directly, because symbols from static libraries are hidden there.
#include "tests/cuda_emulation/block_attention.h"
#include "tests/cuda_emulation/counters.h"

extern "C" {

__attribute__((visibility("default"))) int carillon_emulation_block_attention(
    const carillon_emulation::BlockAttention* block, cudaStream_t stream) {
  return carillon_emulation::start_block_attention(*block, stream);
}

// carillon_emulation_counters, for tests that load the library as the program does.
__attribute__((visibility("default"))) void carillon_emulation_counted(CarillonEmulationCounters* counters) {
  carillon_emulation_counters(counters);
}

}  // extern "C"
