// What is on this machine: devices, driver, library versions.
#pragma once

#include "runtime/cuda/library.h"

namespace carillon::cuda {

CudaSurvey survey();
DeviceDescription describe_device(int device);

}  // namespace carillon::cuda
