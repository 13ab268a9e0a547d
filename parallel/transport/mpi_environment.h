// MPI in this process: initialised once, at program start, by processes that mpirun or srun started.
#pragma once

#include <cstddef>
#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon {

// Whether a launcher of several ranks (mpirun, srun with PMI) started this process, judged from the environment alone.
// False for a single process, which then never initialises MPI.
bool started_under_mpi();

class MpiEnvironment {
 public:
  MpiEnvironment();   // MPI_Init; only the main thread calls MPI
  ~MpiEnvironment();  // MPI_Finalize; every communicator must be gone by then
  MpiEnvironment(const MpiEnvironment&) = delete;

  // The group of all ranks. Each call makes a new communicator; collective.
  std::unique_ptr<Communicator> world();
  int rank() const;
  int size() const;

  // Called by a rank that is about to exit with an error: waits up to `seconds` until all other ranks have come here
  // with an error too. Returns true if all did, so they may exit in an orderly way (rank 0 prints the error); false if
  // the others are still working or gone.
  bool all_failed(double seconds);
  // Kills all ranks at once.
  [[noreturn]] void abort(int code);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Test only: sets the largest single message in bytes (default 1 GiB; MPI counts are 32-bit). 0 restores the default.
void set_mpi_message_limit(size_t bytes);

}  // namespace carillon
