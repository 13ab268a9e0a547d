// Takes the place of runtime/cpu/amx_permission.cpp in tests whose tiles are emulated.
#include "runtime/cpu/amx_permission.h"

namespace carillon::cpu {

bool amx_permitted() { return true; }

}  // namespace carillon::cpu
