// Places where a test makes this process die, fail or linger: CARILLON_TEST_FAIL=NAME[:RANK][:io|:slow] (rank 0 unless
// given). Killed with SIGKILL, as by a machine that goes down; with `io` an error 74 is thrown instead, with `slow` it
// waits half a second.
#pragma once

namespace carillon {

void fail_point(const char* name, int rank);

}  // namespace carillon
