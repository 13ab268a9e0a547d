// The lists of targets that make up a program.
#pragma once

#include <vector>

#include "tests/fuzz/target.h"

namespace carillon::fuzz {

std::vector<Target> formats_targets();
std::vector<Target> text_targets();

}  // namespace carillon::fuzz
