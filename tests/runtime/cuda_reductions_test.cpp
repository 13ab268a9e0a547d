// Kernels with barriers, emulated in both orders of threads: the intact kernels give the same result in both orders;
// without one of the barriers, the result differs in at least one. backend_test.cpp compares the intact kernels with
// the reference.
#include "tests/runtime/cuda_reductions.h"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <functional>

namespace carillon::testing {
namespace {

Reductions run(Reductions (*variant)(), const char* order) {
  setenv("CARILLON_EMULATION", (std::string("order=") + order).c_str(), 1);
  cudaDeviceReset();
  return variant();
}

// Bitwise equality. Unwritten shared memory reads as NaN, which equals nothing.
bool same(const Reductions& a, const Reductions& b) {
  for (const auto& [op, values] : a)
    for (size_t i = 0; i < values.size(); ++i)
      if (std::bit_cast<uint64_t>(values[i]) != std::bit_cast<uint64_t>(b.at(op)[i])) return false;
  return true;
}

TEST(CudaReductions, GiveTheSameBitsInBothOrders) {
  EXPECT_TRUE(same(run(reductions_kNone, "ascending"), run(reductions_kNone, "descending")));
}

TEST(CudaReductions, NoBarrierCanBeLeftOut) {
  const Reductions whole = run(reductions_kNone, "ascending");
  const std::map<std::string, Reductions (*)()> variants = {
#define CARILLON_VARIANT(name) {#name, reductions_##name},
      CARILLON_REDUCTION_BREAKS(CARILLON_VARIANT)
#undef CARILLON_VARIANT
  };
  for (const auto& [name, variant] : variants) {
    const bool ascending = !same(whole, run(variant, "ascending"));
    const bool descending = !same(whole, run(variant, "descending"));
    EXPECT_TRUE(ascending || descending) << name << " goes unnoticed";
    std::printf("%-24s ascending: %s, descending: %s\n", name.c_str(), ascending ? "noticed" : "missed",
                descending ? "noticed" : "missed");
  }
}

}  // namespace
}  // namespace carillon::testing
