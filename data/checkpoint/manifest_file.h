// manifest.json as text: written with a hash over all its other bytes, and read back only when that holds.
#pragma once

#include <functional>
#include <string>

#include "data/checkpoint/checkpoint.h"

namespace carillon {

// Synced; error 74.
void write_manifest_file(const std::string& path, const Manifest& manifest);

// "step-00000100".
std::string folder_of_step(int64_t step);

// body(), in which a file that is not there (66) means that a checkpoint is not whole (65).
void as_part_of_checkpoint(const std::function<void()>& body);

}  // namespace carillon
