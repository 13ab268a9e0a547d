// Which devices this process could compute on, known by what they are and not by their numbers here.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace carillon {

// The UUIDs of the devices that this process sees, in its own numbering, where `device` (runtime.device: cpu, cuda,
// auto, …) would compute on one of them; else none.
std::vector<std::array<int64_t, 2>> visible_devices(const std::string& device);

}  // namespace carillon
