#include "parallel/transport/node_map.h"

#include <algorithm>
#include <map>

#include "parallel/transport/mpi_communicator.h"
#include "parallel/transport/mpi_native.h"

namespace carillon {

int NodeMap::nodes() const { return static_cast<int>(*std::max_element(node_of_rank.begin(), node_of_rank.end())) + 1; }

int NodeMap::local_rank() const {
  return static_cast<int>(std::count(node_of_rank.begin(), node_of_rank.begin() + rank, int64_t{node()}));
}

int NodeMap::local_ranks() const {
  return static_cast<int>(std::count(node_of_rank.begin(), node_of_rank.end(), int64_t{node()}));
}

NodeMap map_nodes(Communicator& world) {
  int64_t label = 0;  // the smallest rank of the node
  if (const auto native = mpi_native(world)) {
    MPI_Comm made = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(*native, MPI_COMM_TYPE_SHARED, world.rank(), MPI_INFO_NULL, &made),
              "finding the ranks of a node", world.name());
    label = make_mpi_communicator(made, "node")->min(static_cast<int64_t>(world.rank()));
  }
  std::vector<int64_t> labels(static_cast<size_t>(world.size()));
  world.all_gather(Tensor::of(labels, {world.size()}), Tensor(&label, DType::kInt64, {1}));
  return number_nodes(labels, world.rank());
}

NodeMap number_nodes(const std::vector<int64_t>& labels, int rank) {
  NodeMap map;
  map.node_of_rank.clear();
  map.rank = rank;
  std::map<int64_t, int64_t> numbers;
  for (const int64_t label : labels)
    map.node_of_rank.push_back(numbers.emplace(label, static_cast<int64_t>(numbers.size())).first->second);
  return map;
}

}  // namespace carillon
