// Access to CUDA. All code that uses CUDA is in libcarillon_cuda.so, which is loaded when a run asks for a device. So
// `carillon` itself starts without the toolkit, and CPU runs do not pay for loading cuBLASLt (0.1 s and 200 MiB per
// process).
//
// The library is the file in the environment variable CARILLON_CUDA_LIBRARY if set, else libcarillon_cuda.so in the
// folder of the program, else in ../lib of that. The tests use an emulated library (tests/cuda_emulation).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/backend.h"
#include "runtime/cuda/loader/machine.h"

namespace carillon {

// What CUDA finds on this machine, without creating a context on a device.
struct CudaSurvey {
  std::string library;               // the file, or "" if it could not be loaded
  std::string problem;               // why no device can be used, with a remedy; "" if one can
  bool broken = false;               // CUDA fails for another reason than a missing library, driver or device
  std::vector<std::string> devices;  // "NVIDIA H100 80GB HBM3, compute capability 9.0, 81559 MiB"
  std::vector<std::array<int64_t, 2>> identities;              // the UUIDs of the devices
  std::vector<std::pair<std::string, std::string>> libraries;  // name and version of what it is built on
};

// The functions that the library exports with C names. They may throw: one compiler built both sides.
using MakeCudaBackend = Backend*(const BackendOptions*);  // "carillon_make_cuda_backend"
using SurveyCuda = void(CudaSurvey*);                     // "carillon_survey_cuda": fills all but `library`

// Returns a symbol of the library, which the first call loads for good. Throws error 64 with the loader's message if
// the library cannot be loaded or lacks the symbol.
void* cuda_library_symbol(const char* name);

// Does not throw if the machine lacks something; reports it in `problem`.
CudaSurvey survey_cuda();
// Call it only if survey_cuda() finds no problem; otherwise it throws InternalError. `take_devices`: see InspectCuda.
CudaMachine inspect_cuda(bool take_devices);
// Whether `auto` uses a device: the driver's library can be loaded (or CARILLON_CUDA_LIBRARY is set) and CUDA finds a
// device. Throws error 64 if CUDA is present but fails.
bool cuda_usable();

// Throws error 64 if there is no library, no driver, no device, or no device options.device_index.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace carillon
