// Finds and loads the library of the second attention engine.
#include "runtime/cuda/attention/fused_attention.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string_view>

#include "runtime/error.h"

namespace carillon::cuda {
namespace {

// In the folder of the library that contains this code, with a name derived from it: for libcarillon_cuda_emulated.so
// it is libcarillon_cudnn_emulated.so.
std::string library_path() {
  if (const char* given = std::getenv("CARILLON_CUDNN_LIBRARY"); given != nullptr && *given != 0) return given;
  Dl_info here{};
  static const char place = 0;
  if (dladdr(&place, &here) == 0 || here.dli_fname == nullptr) return "libcarillon_cudnn.so";
  const std::filesystem::path own = here.dli_fname;
  std::string name = own.filename().string();
  constexpr std::string_view kOwn = "carillon_cuda";
  const size_t at = name.find(kOwn);
  name = at == std::string::npos ? "libcarillon_cudnn.so" : name.replace(at, kOwn.size(), "carillon_cudnn");
  return (own.parent_path() / name).string();
}

}  // namespace

FusedLibrary load_fused_attention(int device, int64_t most_plans) {
  // Ranks may be threads. The library is never unloaded, because plans and exceptions outlive a backend.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  const std::string path = library_path();
  if (access(path.c_str(), F_OK) != 0)
    return {nullptr, fmt::format("cuDNN's attention was not built (there is no {})", path),
            "use native, or build where cuDNN and the headers of nvidia-cudnn-frontend are (runtime/cuda/README.md)"};
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* symbol = handle == nullptr ? nullptr : dlsym(handle, "carillon_make_fused_attention");
  if (symbol == nullptr)
    return {nullptr, fmt::format("cuDNN's attention cannot be loaded ({})", dlerror()), "use native, or install cuDNN"};
  try {
    return {std::unique_ptr<FusedAttention>(reinterpret_cast<MakeFusedAttention*>(symbol)(device, most_plans)), {}, {}};
  } catch (const Error& error) {
    return {nullptr, error.what(), "use native"};
  }
}

}  // namespace carillon::cuda
