// Operations of a run on the folders of its checkpoints, other than saving and loading (checkpoint.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace carillon {

// Renames every checkpoint of `folder` from step `from` on to .bad-step-… and returns the new names. Does nothing if no
// older checkpoint with a readable manifest would remain. Error 74.
std::vector<std::string> set_checkpoints_aside(const std::string& folder, int64_t from);

}  // namespace carillon
