#include "parallel/transport/libraries.h"

#include <mpi.h>

namespace carillon {

std::vector<std::pair<std::string, std::string>> parallel_libraries() {
  // Allowed before MPI_Init.
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string version(text, static_cast<size_t>(length));
  return {{"MPI", version.substr(0, version.find(','))}};
}

}  // namespace carillon
