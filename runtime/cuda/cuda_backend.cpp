#include "runtime/cuda/cuda_backend.h"

#include "runtime/cuda/library.h"

namespace carillon {

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  using Make = Backend* (*)(const BackendOptions*);
  return std::unique_ptr<Backend>(reinterpret_cast<Make>(cuda_library_symbol("carillon_make_cuda_backend"))(&options));
}

}  // namespace carillon
