// What the machine says about its processor.
#pragma once

#include <string>

namespace carillon {

// "AMD EPYC 9R14 …" from /proc/cpuinfo; "unknown" where there is none.
std::string processor_name();

}  // namespace carillon
