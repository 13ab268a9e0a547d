// The devices this process could compute on, identified by UUID because device numbers differ between processes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace carillon {

// The UUIDs (two words each) of the devices that this process sees, in its own numbering. Empty if `device`
// (runtime.device: cpu, cuda, auto, …) would not compute on one of them.
std::vector<std::array<int64_t, 2>> visible_devices(const std::string& device);

}  // namespace carillon
