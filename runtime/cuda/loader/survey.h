// Finds out what this machine has: devices, driver, library versions.
#pragma once

#include "runtime/cuda/loader/library.h"
#include "runtime/cuda/loader/machine.h"

namespace carillon::cuda {

CudaSurvey survey();
DeviceDescription describe_device(int device);
CudaFigures figures_of(int device);  // machine.cpp
CudaMachine inspect(bool take);      // machine.h

}  // namespace carillon::cuda
