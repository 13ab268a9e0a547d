// Charts of paired differences (comparisons.json of a sweep) with their intervals, and tables.
#pragma once

#include <string>

#include "model/rope_config.h"

namespace carillon {

// Returns the section of one task: difference by length, and by position and past the trained length at the longest
// length, all with ±1.96 standard errors and a zero line; tables; pairs that could not be compared; runs over seeds.
// Empty if there is nothing for this task. `comparisons` may be null.
std::string comparison_section(const Json& comparisons, const std::string& task);

}  // namespace carillon
