// Finds and loads the library of the second attention engine.
#include "runtime/cuda/attention/fused_attention.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "runtime/error.h"

namespace carillon::cuda {
namespace {

// Beside the library that this very code is in.
std::string library_path() {
  if (const char* given = std::getenv("CARILLON_CUDNN_LIBRARY"); given != nullptr && *given != 0) return given;
  Dl_info here{};
  static const char place = 0;
  if (dladdr(&place, &here) == 0 || here.dli_fname == nullptr) return "libcarillon_cudnn.so";
  return (std::filesystem::path(here.dli_fname).parent_path() / "libcarillon_cudnn.so").string();
}

}  // namespace

std::unique_ptr<FusedAttention> load_fused_attention(int device) {
  // Ranks may be threads. What was loaded stays: plans and exceptions outlive any one backend.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const std::string path = library_path();
  if (access(path.c_str(), F_OK) != 0)
    fail(ExitCode::kUsage,
         "cuDNN's attention was not built (there is no {}), in runtime.attention: cudnn, use native, or build where "
         "cuDNN "
         "and the headers of nvidia-cudnn-frontend are (runtime/cuda/README.md)",
         path);
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* symbol = handle == nullptr ? nullptr : dlsym(handle, "carillon_make_fused_attention");
  if (symbol == nullptr)
    fail(ExitCode::kUsage,
         "cuDNN's attention cannot be loaded ({}), in runtime.attention: cudnn, use native, or install cuDNN",
         dlerror());
  return std::unique_ptr<FusedAttention>(reinterpret_cast<MakeFusedAttention*>(symbol)(device));
}

}  // namespace carillon::cuda
