// Replaces runtime/cpu/amx_permission.cpp in tests that emulate the tiles.
#include "runtime/cpu/amx_permission.h"

namespace carillon::cpu {

bool amx_permitted() { return true; }

}  // namespace carillon::cpu
