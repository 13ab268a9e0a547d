#include "parallel/transport/device_index.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "parallel/transport/mpi_communicator.h"
#include "parallel/transport/mpi_native.h"

namespace carillon {
namespace {

int number_among(Communicator& node) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  auto own = static_cast<int64_t>(std::hash<std::string>{}(visible == nullptr ? "all" : visible));
  std::vector<int64_t> all(static_cast<size_t>(node.size()));
  node.all_gather(Tensor::of(all, {node.size()}), Tensor(&own, DType::kInt64, {1}));
  return static_cast<int>(std::count(all.begin(), all.begin() + node.rank(), own));
}

}  // namespace

int device_index(Communicator& world) {
  const auto native = mpi_native(world);
  if (!native) return number_among(world);
  MPI_Comm made = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(*native, MPI_COMM_TYPE_SHARED, world.rank(), MPI_INFO_NULL, &made),
            "finding the ranks of a node", world.name());
  return number_among(*make_mpi_communicator(made, "node"));
}

}  // namespace carillon
