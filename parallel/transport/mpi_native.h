// The only access to raw MPI outside `parallel`: data/files/hdf5_file.cpp needs an MPI_Comm for HDF5's parallel driver.
#pragma once

#include <mpi.h>

#include <optional>

#include "parallel/transport/communicator.h"

namespace carillon {

// Returns the MPI communicator behind `group`, or nothing if `group` is not an MPI group (a solo or thread
// communicator).
std::optional<MPI_Comm> mpi_native(Communicator& group);

}  // namespace carillon
