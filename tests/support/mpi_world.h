// For tests under mpirun (carillon_test(… RANKS n)), whose main has started MPI.
#pragma once

#include <memory>

#include "parallel/transport/communicator.h"

namespace carillon::testing {

// A new communicator of all ranks; collective.
std::unique_ptr<Communicator> mpi_world();

}  // namespace carillon::testing
