// A Communicator over MPI. Only parallel/ includes it.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>

#include "parallel/transport/communicator.h"

namespace carillon {

// Takes ownership of `communicator` and frees it at the end.
std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm communicator, std::string name);

// Throws error 75 if `code` is not MPI_SUCCESS: a peer is gone, or the launcher's network failed. A truncated message
// is an InternalError: the ranks called different collectives.
void check_mpi(int code, const char* what, const std::string& where);

}  // namespace carillon
