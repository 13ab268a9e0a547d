// Results of the kernels with barriers on small problems, for cuda_reductions_test.cpp. Each variant of the kernels
// (injected_fault.h) is compiled together with cuda_reductions.cpp into a separate namespace.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace carillon::testing {

// Results by op, run by the emulation in the order given by CARILLON_EMULATION.
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
