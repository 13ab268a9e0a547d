// Replaces the toolkit's header of this name.
#pragma once

#include "emulation/runtime_api.h"
