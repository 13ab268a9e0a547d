// Ranks as threads of one process: runs every layout in one test, without mpirun. The rules are the same as over MPI
// (communicator.h). An exchange completes when both sides have started it; the side that starts second copies.
#pragma once

#include <functional>
#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

// Runs body(world) on `ranks` threads and returns when all have returned. If one throws, the others are woken with an
// error wherever they wait, and the exception of the rank that failed first is rethrown here.
void run_ranks(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body);

// Test only: during its lifetime, starting an exchange and waiting for it is delayed by up to `microseconds`, at
// random. Results must not change by a bit.
class ScopedExchangeDelay {
 public:
  explicit ScopedExchangeDelay(int microseconds);
  ~ScopedExchangeDelay();
  ScopedExchangeDelay(const ScopedExchangeDelay&) = delete;
};

}  // namespace carillon
