// Replaces the toolkit's header of this name: found first when .cu files are compiled as C++ (README.md).
#pragma once

#include "emulation/device_math.h"
#include "emulation/launch.h"
#include "emulation/runtime_api.h"
#include "emulation/types.h"
#include "emulation/warp.h"
