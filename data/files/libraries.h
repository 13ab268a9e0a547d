// Names and versions of the libraries this folder is built on, for `carillon info`.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace carillon {

std::vector<std::pair<std::string, std::string>> data_libraries();

}  // namespace carillon
