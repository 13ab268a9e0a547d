// Paired differences (comparisons.json of a sweep) as pictures with their intervals, and tables.
#pragma once

#include <string>

#include "model/rope_config.h"

namespace carillon {

// Of one task: difference against length, by position and past the trained length at the longest length, all with ±1.96
// standard errors and the zero line; tables; pairs that could not be compared; runs over seeds. Empty where the task
// has none of it. `comparisons` may be null.
std::string comparison_section(const Json& comparisons, const std::string& task);

}  // namespace carillon
