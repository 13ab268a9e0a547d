#include "runtime/cuda/cuda_backend.h"

namespace carillon {

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions&) {
  fail(ExitCode::kUsage, "this carillon was built without CUDA, in runtime.device: cuda, use runtime.device=cpu");
}

}  // namespace carillon
