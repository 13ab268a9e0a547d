// The shared library of the CUDA side, loaded only when a device is asked for (provisional: helper-ops has the final
// one).
#pragma once

#include "runtime/backend.h"

namespace carillon {

// A symbol of libcarillon_cuda.so: of CARILLON_CUDA_LIBRARY if set, else beside the executable, else ../lib beside it.
// Error 64 with dlerror's text.
void* cuda_library_symbol(const char* name);

}  // namespace carillon
