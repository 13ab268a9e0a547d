// Writes and reads the text of manifest.json, which contains a hash of all its other bytes; reading verifies it.
#pragma once

#include <functional>
#include <string>

#include "data/checkpoint/checkpoint.h"

namespace carillon {

// Writes and syncs the file; error 74.
void write_manifest_file(const std::string& path, const Manifest& manifest);

// "step-00000100".
std::string folder_of_step(int64_t step);

// Calls body() and turns the error of a missing file (66) into that of an incomplete checkpoint (65).
void as_part_of_checkpoint(const std::function<void()>& body);

}  // namespace carillon
