// Ranks as threads of one process: every layout in one test, without mpirun. The same rules as over MPI
// (communicator.h); exchanges complete when both sides have started them, the second copies.
#pragma once

#include <functional>
#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

// Runs body(world) on `ranks` threads and returns when all have. If one throws, the others are woken with an error
// where they wait, and the exception of the rank that failed first is thrown here.
void run_ranks(int ranks, const std::function<void(std::unique_ptr<Communicator>)>& body);

// Test only: until it is destroyed, exchanges are started and waited for up to `microseconds` late, differently each
// time. What is computed must not change by a bit.
class ScopedExchangeDelay {
 public:
  explicit ScopedExchangeDelay(int microseconds);
  ~ScopedExchangeDelay();
  ScopedExchangeDelay(const ScopedExchangeDelay&) = delete;
};

}  // namespace carillon
