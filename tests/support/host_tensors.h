// A backend that accepts host tensors on any device: copies each op's tensors to the device before the op and back
// after it, including gaps between rows and overlaps between tensors, so that one test body serves every backend. Slow;
// for tests of ops.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"

namespace carillon::testing {

// Returns `device` itself if it uses host memory.
std::unique_ptr<Backend> on_host_tensors(std::unique_ptr<Backend> device);

// What tests of fast backends run on: the instruction sets of this machine's CPU; with CARILLON_TEST_DEVICE=cuda only
// "cuda", the library that CARILLON_CUDA_LIBRARY names, emulated or real.
std::vector<std::string> kinds_under_test();
inline bool is_cuda(const std::string& kind) { return kind == "cuda"; }
// Why this kind cannot run here, for GTEST_SKIP; "" if it can.
std::string why_skipped(const std::string& kind);
// Whether each rank, a thread of the test, can have its own device; if not, prints that the case is left out. With
// CARILLON_TEST_SHARED_DEVICE=1 ranks share devices, through host memory or an NCCL that allows it.
bool enough_devices(int ranks);
// Returns a backend for host tensors. `threads` is for the CPU.
std::unique_ptr<Backend> make_under_test(const std::string& kind, int threads);

}  // namespace carillon::testing
