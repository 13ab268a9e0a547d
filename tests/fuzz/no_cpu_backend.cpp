// Replaces runtime/cpu, which clang cannot compile; no target computes anything.
#include "runtime/check.h"
#include "runtime/cpu/cpu_backend.h"

namespace carillon {

std::unique_ptr<Backend> make_cpu_backend(const BackendOptions&) {
  throw InternalError("a fuzz target computes with a model");
}

}  // namespace carillon
