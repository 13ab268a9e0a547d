// Removes what interrupted saves and removals leave in a folder of checkpoints.
#pragma once

#include <string>

namespace carillon {

// Removes .tmp-…, .del-… and temporary files. Must be called only by the process that writes there. Ignores what cannot
// be removed.
void remove_checkpoint_leftovers(const std::string& folder);

}  // namespace carillon
