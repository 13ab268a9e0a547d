// Which process on which machine: what locks and claims name their holder by.
#pragma once

#include <string>

namespace carillon {

std::string host_name();

// When process `pid` of this machine began, in clock ticks since it started; empty when there is none or it is dead. A
// process number may be used again, number and time together are not.
std::string start_time(const std::string& pid);

// "HOST PID START", of this process.
std::string this_process();

}  // namespace carillon
