// Whether this process may use Intel AMX.
#pragma once

namespace carillon::cpu {

// Whether the processor has AMX tiles with bfloat16 products, and Linux has granted their 8 KiB of state per thread.
// The first call requests that; the grant covers all threads of the process.
bool amx_permitted();

}  // namespace carillon::cpu
