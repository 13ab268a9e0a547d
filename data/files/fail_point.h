// Points at which a test makes this process die, fail or pause: CARILLON_TEST_FAIL=NAME[:RANK][:io|:slow] (default:
// rank 0). By default the process is killed with SIGKILL, as if the machine went down; `io` throws error 74 instead,
// and `slow` waits half a second.
#pragma once

namespace carillon {

void fail_point(const char* name, int rank);

}  // namespace carillon
