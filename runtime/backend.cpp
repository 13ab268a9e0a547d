#include "runtime/backend.h"

#include "runtime/cpu/cpu_backend.h"
#include "runtime/cuda/cuda_backend.h"
#include "runtime/reference/reference_backend.h"

namespace carillon {

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  if (options.device == "reference") return std::make_unique<ReferenceBackend>();
  if (options.device == "cuda") return make_cuda_backend(options);
  if (options.device == "cpu" || options.device == "auto") return make_cpu_backend(options);
  fail(ExitCode::kUsage, "there is no device \"{}\", in runtime.device, use auto, cpu, reference or cuda",
       options.device);
}

}  // namespace carillon
