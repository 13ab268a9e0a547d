// A backend that takes tensors of the host whatever device ops run on: each op's tensors are moved to the device before
// it and back after it, with the gaps between their rows and wherever they lie over each other, so that one test body
// serves every backend. Slow; for tests of ops.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace carillon::testing {

// On a backend whose memory is the host's: that backend itself.
std::unique_ptr<Backend> on_host_tensors(std::unique_ptr<Backend> device);

// What a test of fast backends runs on: the instruction sets of this machine's CPU; or, with CARILLON_TEST_DEVICE=cuda,
// "cuda" alone: the library that CARILLON_CUDA_LIBRARY names, emulated or real.
std::vector<std::string> kinds_under_test();
inline bool is_cuda(const std::string& kind) { return kind == "cuda"; }
// Why this kind cannot run here, for GTEST_SKIP; "" when it can.
std::string why_skipped(const std::string& kind);
// Ranks that are threads of a test have a device each; on a machine with fewer the case is left out, which is printed.
// With CARILLON_TEST_SHARED_DEVICE=1 they share what is there, through host memory or an NCCL that allows it.
bool enough_devices(int ranks);
// On host tensors. `threads` is the CPU's.
std::unique_ptr<Backend> make_under_test(const std::string& kind, int threads);

}  // namespace carillon::testing
