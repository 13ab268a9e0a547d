// The door to the CUDA backend. Its sources come with CARILLON_CUDA; without them not_built.cpp stands here.
#pragma once

#include <memory>

#include "runtime/backend.h"

namespace carillon {

// Error 64 when this program was built without CUDA, or there is no device.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace carillon
