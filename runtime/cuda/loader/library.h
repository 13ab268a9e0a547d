// The door to CUDA. Everything of it is in libcarillon_cuda.so, which is loaded when a device is asked for: `carillon`
// itself starts where there is no toolkit, and CPU runs do not pay for loading cuBLASLt (0.1 s and 200 MiB a process).
//
// The library: environment CARILLON_CUDA_LIBRARY if set, else libcarillon_cuda.so beside the program, else in ../lib
// beside it. The emulated twin of the tests (tests/cuda_emulation) is such a library too.
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

// What CUDA finds on this machine, without taking a device.
struct CudaSurvey {
  std::string library;               // the file, or "" where it could not be loaded
  std::string problem;               // why no device can be used, with what to do; "" when one can
  bool broken = false;               // there should be one: neither "no driver" nor "no device" nor "no library"
  std::vector<std::string> devices;  // "NVIDIA H100 80GB HBM3, compute capability 9.0, 81559 MiB"
  std::vector<std::array<int64_t, 2>> identities;              // their UUIDs
  std::vector<std::pair<std::string, std::string>> libraries;  // name and version of what it is built on
};

// What the library exports, with C names. Exceptions cross: both sides come from one compiler.
using MakeCudaBackend = Backend*(const BackendOptions*);  // "carillon_make_cuda_backend"
using SurveyCuda = void(CudaSurvey*);                     // "carillon_survey_cuda": fills all but `library`

// A symbol of the library, which is loaded on the first call and stays. Error 64 with the loader's words where it
// cannot be loaded or lacks the symbol.
void* cuda_library_symbol(const char* name);

// Never throws for what a machine may lack: says it in `problem`.
CudaSurvey survey_cuda();
// Only where survey_cuda() finds no problem: errors are InternalError otherwise.
CudaMachine inspect_cuda(bool take_devices);
// Whether `auto` takes a device: the driver's library can be loaded (or CARILLON_CUDA_LIBRARY is set), and a device
// counted. Error 64 where CUDA is there but fails.
bool cuda_usable();

// Error 64 where there is no library, no driver, no device, or no device of options.device_index.
std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options);

}  // namespace carillon
