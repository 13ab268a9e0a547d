// Replaces the toolkit's header of this name.
#pragma once

#include "emulation/types.h"
