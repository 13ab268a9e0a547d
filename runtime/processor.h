// The name of the machine's processor.
#pragma once

#include <string>

namespace carillon {

// "AMD EPYC 9R14 …", from /proc/cpuinfo; "unknown" if that has no such line.
std::string processor_name();

}  // namespace carillon
