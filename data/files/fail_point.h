// Places where a test makes this process die or fail: CARILLON_TEST_FAIL=NAME[:RANK][:io] (rank 0 unless given). Killed
// with SIGKILL, as by a machine that goes down; with `io` an error 74 is thrown instead.
#pragma once

namespace carillon {

void fail_point(const char* name, int rank);

}  // namespace carillon
