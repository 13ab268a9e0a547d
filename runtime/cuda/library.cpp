#include "runtime/cuda/library.h"

#include <dlfcn.h>

#include <cstdlib>

namespace carillon {

void* cuda_library_symbol(const char* name) {
  const char* path = std::getenv("CARILLON_CUDA_LIBRARY");
  static void* const library = dlopen(path == nullptr ? "libcarillon_cuda.so" : path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    fail(ExitCode::kUsage, "the CUDA library cannot be loaded ({}), in runtime.device: cuda, use runtime.device=cpu",
         dlerror());
  void* symbol = dlsym(library, name);
  if (symbol == nullptr)
    fail(ExitCode::kUsage, "the CUDA library has no {}, in CARILLON_CUDA_LIBRARY, build it again", name);
  return symbol;
}

}  // namespace carillon
