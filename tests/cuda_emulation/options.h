// CARILLON_EMULATION="key=value,key=value": how the emulated devices behave. All keys: README.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace carillon_emulation {

struct Options {
  bool descending = false;         // order=ascending|descending: of blocks, warps and lanes
  bool copies_early = false;       // copies=late|early: copy_async_16 lands at the wait for it, or when issued
  bool adversarial = false;        // streams=ordered|adversarial:seed
  std::uint64_t seed = 0;          //   0: newest stream first; 1: oldest first; others: drawn
  int devices = 8;                 // devices=N
  bool own_device = false;         // visible=all|own: of the N, all, or only that of this rank of its node …
  int first_device = 0;            //   … which is number 0 to the program
  std::size_t memory_mib = 16384;  // memory=MiB of each device
  std::size_t context_mib = 0;     // context=MiB of each device that a context, kernels' code and the like take
  bool products_aligned = false;   // products=any|aligned: cuBLASLt has none for bfloat16 rows off 16 bytes
  std::size_t pitch = 0x7fffffff;  // pitch=BYTES between rows that two-dimensional copies take at most
  std::string driver = "present";  // driver=present|none|old
#if defined(__SANITIZE_THREAD__)
  bool own_process = false;  // ThreadSanitizer does not follow threads started after a fork
#else
  bool own_process = true;  // process=own|thread: where kernels run
#endif
  int capability = 90;  // capability=80|90|100…: what the devices say they are
  // attention=MISTAKE or MISTAKE:CALLS: what is wrong in block_attention.cpp, after so many calls of a process that
  // were right. right; out: the output too large; lse: the log-sum-exp's sign; dk: dk too small; lost: no dk of full
  // blocks; causal: full blocks taken for causal ones; own: a backward pass by the log-sum-exp of its block alone.
  enum class Attention { kRight, kOut, kLse, kDk, kLost, kCausal, kOwn } attention = Attention::kRight;
  std::int64_t attention_calls = 0;
  std::string counters;  // counters=FOLDER: what was counted goes there at the process's end
  double patience = 10;  // patience=seconds that NCCL waits for a lost peer before the stream fails
};

// Read from the environment at the first CUDA call and after cudaDeviceReset; a mistake in it ends the program.
Options read_options();

}  // namespace carillon_emulation
