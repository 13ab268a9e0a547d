// How much memory this machine can still give.
#pragma once

#include <cstdint>

namespace carillon {

enum class Swap { kLeftOut, kCounts };

// Bytes that can be used before the system has to end a process: the kernel's estimate, with the caches that it would
// drop, and free swap if that counts. -1 if the kernel does not tell.
int64_t available_memory(Swap swap);

}  // namespace carillon
