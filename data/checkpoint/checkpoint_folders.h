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

// Removes what a save that failed left (.tmp-…), so that it does not take the space the next one needs. Never fails.
void remove_unfinished_checkpoints(const std::string& folder);

// Whether an error 74 says that the disk, or this user's share of it, is full: worth another try later.
bool is_lack_of_space(const Error& error);

}  // namespace carillon
