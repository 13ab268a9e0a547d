// What the libraries the program reads text with throw, as Errors (runtime/foreign_error.h).
#pragma once

namespace carillon {

// nlohmann's json, yaml-cpp and CLI11. Called once, at the start.
void register_library_exceptions();

}  // namespace carillon
