// The one door to raw MPI outside `parallel`: data/files/hdf5_file.cpp needs an MPI_Comm for HDF5's parallel driver.
#pragma once

#include <mpi.h>

#include <optional>

#include "parallel/transport/communicator.h"

namespace carillon {

// The MPI communicator behind `group`; nothing when it is not one (a solo or thread communicator).
std::optional<MPI_Comm> mpi_native(Communicator& group);

}  // namespace carillon
