// Reductions whose result does not depend on how messages were split or in which order they arrived: the ranks' parts
// are added as ((part 0 + part 1) + part 2) …, in the accumulate type, and rounded once.
#pragma once

#include <vector>

#include "parallel/transport/communicator.h"

namespace carillon {

// y[i] = reduction over r of parts[r][i]; every part holds y.count() elements of y's type. y may be one of the parts.
void reduce_in_rank_order(Tensor y, const std::vector<const void*>& parts, Reduction reduction);

}  // namespace carillon
