// Writes one file from several machines. A network file system may cache pages of the file on each machine and write
// them back whole. If two machines write neighbouring bytes at the same time, the bytes of one of them are then lost.
// Here every block of the file is written by exactly one machine; ranks elsewhere first send it the bytes they hold of
// that block. No library stands between us and the disk (MPI-IO hangs when a write fails), so a failed write is known
// at once.
//
// A block has kSharedBlock bytes. Its owner is the machine of the first rank that holds any of its bytes. Tensors split
// by rows share one block per boundary, so almost nothing is sent; tensors split by columns across machines are sent
// whole.
#pragma once

#include <vector>

#include "data/checkpoint/tensor_io.h"
#include "parallel/transport/communicator.h"

namespace carillon {

inline constexpr int64_t kSharedBlock = int64_t{1} << 20;

// Writes `parts`. Every rank passes the same names and places in the same order, with an empty rectangle for a tensor
// of which it has nothing. Fills in the hashes of the parts that are sent; the sink fills in those of the others.
// machine[r] is the number of rank r's machine. Collective. A rank whose disk fails keeps exchanging and throws its own
// error at the end, as TensorWriter would; the caller has to make the ranks agree on it.
void write_aggregated(Communicator& world, const std::vector<int>& machine, TensorSink& writer,
                      std::vector<TensorPart>& parts);

}  // namespace carillon
