// What the kernels with barriers give on small problems, for cuda_reductions_test.cpp: each variant of the kernels
// (injected_fault.h) is compiled with cuda_reductions.cpp into a namespace of its own.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace carillon::testing {

// By op; run by the emulation in the order that CARILLON_EMULATION says.
using Reductions = std::map<std::string, std::vector<double>>;

#define CARILLON_REDUCTION_BREAKS(X) \
  X(kSumBarrierRemoved)              \
  X(kSlotsBarrierRemoved)            \
  X(kRunsBarrierRemoved)             \
  X(kMaximumBarrierRemoved)          \
  X(kGradientBarrierRemoved)         \
  X(kSortBarrierRemoved)
#define CARILLON_DECLARE(name) Reductions reductions_##name();
CARILLON_DECLARE(kNone)
CARILLON_REDUCTION_BREAKS(CARILLON_DECLARE)
#undef CARILLON_DECLARE

}  // namespace carillon::testing
