// MPI as this process sees it: started once, at the beginning, by processes that mpirun or srun started.
#pragma once

#include <cstddef>
#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

// Whether a launcher of several ranks (mpirun, srun with PMI) started this process. From the environment alone; false
// for a lone process, which then never initialises MPI.
bool started_under_mpi();

class MpiEnvironment {
 public:
  MpiEnvironment();   // MPI_Init; only the main thread calls MPI
  ~MpiEnvironment();  // MPI_Finalize; every communicator must be gone by then
  MpiEnvironment(const MpiEnvironment&) = delete;

  // All ranks. Each call makes a new communicator; collective.
  std::unique_ptr<Communicator> world();
  int rank() const;
  int size() const;

  // Called by a rank that is about to leave with an error: waits up to `seconds` for all the others to come here with
  // an error too. True: all did, and may leave in order (rank 0 speaks); false: the others are at work or gone.
  bool all_failed(double seconds);
  // Takes every rank down, at once.
  [[noreturn]] void abort(int code);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Test only: the largest single message in bytes (default 1 GiB; MPI counts are 32-bit). 0 restores the default.
void set_mpi_message_limit(size_t bytes);

}  // namespace carillon
