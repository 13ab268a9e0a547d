// Converts exceptions of the libraries that read text to Errors (runtime/foreign_error.h).
#pragma once

namespace carillon {

// Registers nlohmann's json, yaml-cpp and CLI11. Called once at the start.
void register_library_exceptions();

}  // namespace carillon
