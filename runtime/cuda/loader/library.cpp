#include "runtime/cuda/loader/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <mutex>

namespace carillon {
namespace {

constexpr const char* kRemedy =
    "in runtime.device: cuda, use runtime.device=cpu, or build with -DCARILLON_CUDA=on and install the CUDA runtime "
    "libraries";

std::filesystem::path program_folder() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length <= 0 ? "." : std::filesystem::path(std::string(path.data(), static_cast<size_t>(length))).parent_path();
}

std::vector<std::string> candidates() {
  if (const char* given = std::getenv("CARILLON_CUDA_LIBRARY"); given != nullptr && *given != 0) return {given};
  constexpr const char* kName = "libcarillon_cuda.so";
  const std::filesystem::path folder = program_folder();
  return {(folder / kName).string(), (folder / ".." / "lib" / kName).lexically_normal().string()};
}

struct Library {
  void* handle = nullptr;
  std::string path;
  std::string failure;  // one line, when handle is null
};

// Loaded once, by the first rank of this process that asks; never unloaded, since buffers and exceptions need its code.
const Library& library() {
  static std::once_flag once;
  static Library loaded;
  std::call_once(once, [] {
    const std::vector<std::string> paths = candidates();
    for (const std::string& path : paths) {
      if (paths.size() > 1 && access(path.c_str(), F_OK) != 0) continue;
      loaded.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      loaded.path = path;
      if (loaded.handle == nullptr) loaded.failure = dlerror();
      return;
    }
    loaded.failure = fmt::format("there is no {}", paths.front());
  });
  return loaded;
}

bool driver_library_there() {
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return false;
  dlclose(driver);
  return true;
}

}  // namespace

void* cuda_library_symbol(const char* name) {
  const Library& loaded = library();
  if (loaded.handle == nullptr)
    fail(ExitCode::kUsage, "the CUDA library cannot be loaded ({}), {}", loaded.failure, kRemedy);
  dlerror();
  void* symbol = dlsym(loaded.handle, name);
  if (symbol == nullptr) fail(ExitCode::kUsage, "{} is not of this carillon ({}), {}", loaded.path, dlerror(), kRemedy);
  return symbol;
}

CudaSurvey survey_cuda() {
  CudaSurvey survey;
  try {
    reinterpret_cast<SurveyCuda*>(cuda_library_symbol("carillon_survey_cuda"))(&survey);
    survey.library = library().path;
  } catch (const Error& error) {
    survey.problem = error.what();
  }
  return survey;
}

CudaMachine inspect_cuda(bool take_devices) {
  CudaMachine machine;
  reinterpret_cast<InspectCuda*>(cuda_library_symbol("carillon_inspect_cuda"))(&machine, take_devices);
  return machine;
}

bool cuda_usable() {
  const char* given = std::getenv("CARILLON_CUDA_LIBRARY");
  if ((given == nullptr || *given == 0) && !driver_library_there()) return false;
  const CudaSurvey survey = survey_cuda();
  if (survey.broken) fail(ExitCode::kUsage, "{}", survey.problem);
  return survey.problem.empty();
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  const auto make = reinterpret_cast<MakeCudaBackend*>(cuda_library_symbol("carillon_make_cuda_backend"));
  return std::unique_ptr<Backend>(make(&options));
}

}  // namespace carillon
