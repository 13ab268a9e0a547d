#include "runtime/visible_devices.h"

#include "runtime/cuda/loader/library.h"

namespace carillon {

std::vector<std::array<int64_t, 2>> visible_devices(const std::string& device) {
  if (device != "cuda" && !(device == "auto" && cuda_usable())) return {};
  return survey_cuda().identities;
}

}  // namespace carillon
