// Whether this process may use Intel AMX.
#pragma once

namespace carillon::cpu {

// The processor has its tiles and their products of bfloat16, and the kernel has been asked for the tiles' 8 KiB of
// state a thread, which it grants a process once and for all its threads.
bool amx_permitted();

}  // namespace carillon::cpu
