// What a run does with its checkpoints' folders beside saving and loading (checkpoint.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace carillon {

// Renames every checkpoint of `folder` from step `from` on to .bad-step-…, unless no older one with a readable manifest
// would be left; gives their new names. Error 74.
std::vector<std::string> set_checkpoints_aside(const std::string& folder, int64_t from);

}  // namespace carillon
