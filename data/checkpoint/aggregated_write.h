// Several machines write one file. A network file system may keep pages of a file on each machine and bring them back
// whole, so that of two machines that write neighbouring bytes at once one loses its bytes. Here every block of the
// file is written by one machine only: what ranks elsewhere have of it travels to its owner first. No library stands
// between us and the disk (MPI-IO hangs when a write fails), so an error is known at once and on every rank.
//
// The owner of a block of kSharedBlock bytes is the machine of the first rank that has any of its bytes. Tensors split
// by rows share a block a boundary, so next to nothing travels; tensors split by columns over machines travel whole.
#pragma once

#include <vector>

#include "data/checkpoint/tensor_io.h"
#include "parallel/transport/communicator.h"

namespace carillon {

inline constexpr int64_t kSharedBlock = int64_t{1} << 20;

// Writes `parts`, the same names and places in the same order on every rank (with an empty rectangle where it has
// nothing), and fills in the hashes of those that travel; the sink those of the others. machine[r] numbers the machine
// of rank r. Collective; errors as TensorWriter's, on every rank.
void write_aggregated(Communicator& world, const std::vector<int>& machine, TensorSink& writer,
                      std::vector<TensorPart>& parts);

}  // namespace carillon
