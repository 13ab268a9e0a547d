// manifest.json as text: written with a hash over all its other bytes, and read back only when that holds.
#pragma once

#include <string>

#include "data/checkpoint/checkpoint.h"

namespace carillon {

// Synced; error 74.
void write_manifest_file(const std::string& path, const Manifest& manifest);

}  // namespace carillon
