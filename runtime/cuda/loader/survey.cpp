#include "runtime/cuda/loader/survey.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstring>

#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"

namespace carillon::cuda {
namespace {

// 13020 -> "13.2"
std::string version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

constexpr int kOldestMajor = 8;  // the kernels are compiled for sm_80 and later

// The oldest driver for a runtime of this version (cmake/CudaArchitectures.cmake).
constexpr int driver_for(int runtime) { return runtime < 13000 ? 525 : 580; }

}  // namespace

CudaSurvey survey() {
  CudaSurvey result;
  int runtime = 0, driver = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);  // 0: none
  const size_t cublas = cublasLtGetVersion();
  result.libraries = {{"CUDA runtime", version(runtime)},
                      {"CUDA driver", driver == 0 ? "none" : version(driver)},
                      {"cuBLASLt", fmt::format("{}.{}.{}", cublas / 10000, cublas / 100 % 100, cublas % 100)}};
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) cudaGetLastError();
  if (error == cudaErrorInsufficientDriver) {
    result.problem = fmt::format(
        "the CUDA driver is missing or older than this program's CUDA {} ({}), in runtime.device: cuda, install "
        "driver {} or newer, or use runtime.device=cpu",
        version(runtime), driver == 0 ? "no driver was found" : "the driver knows CUDA " + version(driver),
        driver_for(runtime));
  } else if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
    result.problem =
        "no CUDA device is visible, in runtime.device: cuda, see nvidia-smi and CUDA_VISIBLE_DEVICES, or "
        "use runtime.device=cpu";
  } else if (error != cudaSuccess) {
    result.broken = true;
    result.problem = fmt::format(
        "CUDA does not start: {} ({}), in runtime.device, see nvidia-smi, or use "
        "runtime.device=cpu",
        cudaGetErrorName(error), cudaGetErrorString(error));
  }
  if (!result.problem.empty()) return result;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    CHECK_CUDA(cudaGetDeviceProperties(&properties, device));
    result.devices.push_back(fmt::format("{}, compute capability {}.{}, {} MiB", properties.name, properties.major,
                                         properties.minor, properties.totalGlobalMem >> 20));
    static_assert(sizeof properties.uuid == sizeof result.identities[0]);
    std::memcpy(&result.identities.emplace_back(), &properties.uuid, sizeof properties.uuid);
    if (properties.major < kOldestMajor)
      result.problem = fmt::format(
          "CUDA device {} ({}) has compute capability {}.{}, and 8.0 (A100) is the oldest this program is built for, "
          "in "
          "runtime.device: cuda, hide it with CUDA_VISIBLE_DEVICES or use runtime.device=cpu",
          device, properties.name, properties.major, properties.minor);
  }
  return result;
}

DeviceDescription describe_device(int device) {
  const CudaFigures figures = figures_of(device);
  DeviceDescription description;
  description.name = "cuda";
  description.processor = figures.name;
  description.instruction_set = fmt::format("sm_{}{}", figures.major, figures.minor);
  description.available = {description.instruction_set};
  description.bfloat16_native = true;
  description.peak = device_peak(figures);
  return description;
}

}  // namespace carillon::cuda

// The functions that carillon looks up in this library (library.h).
extern "C" {

__attribute__((visibility("default"))) void carillon_survey_cuda(carillon::CudaSurvey* survey) {
  *survey = carillon::cuda::survey();
}

__attribute__((visibility("default"))) carillon::Backend* carillon_make_cuda_backend(
    const carillon::BackendOptions* options) {
  return new carillon::CudaBackend(*options);
}

}  // extern "C"
