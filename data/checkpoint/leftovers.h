// What saves and removals that were cut short leave in a folder of checkpoints.
#pragma once

#include <string>

namespace carillon {

// Removes .tmp-…, .del-… and temporary files. Called by the one process that may write there. What cannot be
// removed stays.
void remove_checkpoint_leftovers(const std::string& folder);

}  // namespace carillon
