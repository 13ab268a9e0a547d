// Bounds how long a thread spins before it sleeps while it waits for another thread. The CPU backend and oneDNN use
// libgomp, whose waiting threads spin for 300 000 pauses (20 ms on a current processor) before they sleep. On an idle
// machine spinning ends a wait sooner. On a busy machine the awaited thread may be queued behind another process, and
// the spinning thread then occupies the core it needs. So a thread of this program gives up its core after
// kSpinNanoseconds.
//
// libgomp takes this limit only from the environment variable GOMP_SPINCOUNT, which it reads when it is loaded, before
// main(). So the program executes itself once more with the variable set, before any library has been initialised
// (.preinit_array). Process, arguments and open files stay the same; the cost is linking the program again, a few
// milliseconds. This is done only for commands that compute with several threads, except generate, and not if the user
// has set GOMP_SPINCOUNT or OMP_WAIT_POLICY.
#pragma once

#include <cstdint>

namespace carillon {

// On an idle machine a step of six layers takes no longer with this limit; next to a busy process it takes two thirds
// of the time. With 0.7 ms it is delayed nearly as much as with libgomp's own limit (tests/benchmarks/README.md,
// "Beside other processes").
inline constexpr int64_t kSpinNanoseconds = 200'000;

// Runs from the main program's .preinit_array, before the C library is initialised: it may only make system calls.
void start_with_brief_waits(int count, char** arguments, char** environment);

}  // namespace carillon
