// How long threads that wait for each other look before they sleep. The CPU backend's threads, and oneDNN's, are
// libgomp's, whose waiting thread spins for 300 000 pauses, 20 ms on a processor of today, before it sleeps: alone a
// wait is over sooner, but beside other work the thread that is waited for may be queued after another process, and
// then the spinning one keeps the core that it could have had. So a thread of this program gives its core up after
// kBriefWaitNanoseconds.
//
// libgomp knows of this from one environment variable alone, GOMP_SPINCOUNT, read while it is loaded, before main().
// So the program is started once more with the variable set, before any library has begun (.preinit_array): the same
// process, arguments and open files, for what it takes to link the program again, some milliseconds. Only for commands
// that compute with several threads, generate excepted, and not where a person has set GOMP_SPINCOUNT or
// OMP_WAIT_POLICY.
#pragma once

#include <cstdint>

namespace carillon {

// Alone a step of six layers takes no longer with it, beside a busy process two thirds of the time; with 0.7 ms it is
// held up nearly as long as with libgomp's own wait (tests/benchmarks/README.md, "Beside other processes").
inline constexpr int64_t kBriefWaitNanoseconds = 200'000;

// Main program's .preinit_array: nothing of the C library's own start has happened, so only system calls may be made.
void start_with_brief_waits(int count, char** arguments, char** environment);

}  // namespace carillon
