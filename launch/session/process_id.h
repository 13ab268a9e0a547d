// Identifies a process and its machine: locks and claims name their holder this way.
#pragma once

#include <string>

namespace carillon {

std::string host_name();

// Returns when process `pid` of this machine started, in clock ticks since boot; empty if there is no such process or
// it is dead. A process number may be reused; number and start time together are unique.
std::string start_time(const std::string& pid);

// "HOST PID START" of this process.
std::string this_process();

}  // namespace carillon
