// CARILLON_EMULATION="key=value,key=value" sets how the emulated devices behave. README.md lists all keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace carillon_emulation {

struct Options {
  bool descending = false;         // order=ascending|descending: of blocks, warps and lanes
  bool copies_early = false;       // copies=late|early: copy_async_16 completes at the wait for it, or when issued
  bool adversarial = false;        // streams=ordered|adversarial:seed
  std::uint64_t seed = 0;          //   0: newest stream first; 1: only what is waited for; others: random
  int devices = 8;                 // devices=N
  bool own_device = false;         // visible=all|own: all N, or only the one of this rank's number on its node …
  int first_device = 0;            //   … which the program sees as device 0
  std::size_t memory_mib = 16384;  // memory=MiB of each device
  std::size_t context_mib = 0;     // context=MiB of each device that a context, kernel code etc. use
  bool products_aligned = false;   // products=any|aligned: cuBLASLt refuses bfloat16 rows not aligned to 16 bytes
  int algorithms = 1;              // algorithms=N or N:FASTEST: how many cuBLASLt's heuristics know for a product …
  int fastest_algorithm = 0;       // … and the number of the one that takes no longer than it does here
  std::size_t pitch = 0x7fffffff;  // pitch=BYTES: maximum distance between rows in two-dimensional copies
  std::string driver = "present";  // driver=present|none|old
#if defined(__SANITIZE_THREAD__)
  bool own_process = false;  // ThreadSanitizer does not support threads started after a fork
#else
  bool own_process = true;  // process=own|thread: where kernels run
#endif
  int capability = 90;  // capability=80|90|100…: compute capability of the devices, times ten
  // attention=MISTAKE or MISTAKE:CALLS: the fault of block_attention.cpp after this number of correct calls in a
  // process. right: none; out: output too large; lse: wrong sign of the log-sum-exp; dk: dk too small; lost: no dk of
  // full blocks; causal: full blocks computed as causal; own: backward pass with the log-sum-exp of its block alone.
  enum class Attention { kRight, kOut, kLse, kDk, kLost, kCausal, kOwn } attention = Attention::kRight;
  std::int64_t attention_calls = 0;
  std::string counters;  // counters=FOLDER: the counters are written there when the process ends
  double patience = 10;  // patience=seconds that NCCL waits for a lost peer before the stream fails
};

// Reads the environment, at the first CUDA call and after cudaDeviceReset; an error in it ends the program.
Options read_options();

}  // namespace carillon_emulation
