// Which uploads to a device are staged (staged_uploads.h), so that the host does not wait for them. `plan` uses this
// too.
#pragma once

#include <cstddef>

#include "runtime/tensor.h"

namespace carillon::cuda {

// 8 MiB hold the int64 indices of a million tokens; for a larger upload the host may as well wait.
inline constexpr size_t kLargestStagedUpload = size_t{8} << 20;

inline bool is_staged(const Tensor& device, const Tensor& host) {
  return device.packed() && host.packed() && device.bytes() <= kLargestStagedUpload && !device.empty();
}

}  // namespace carillon::cuda
