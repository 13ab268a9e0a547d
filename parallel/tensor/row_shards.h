// How the N rows of the residual are distributed over the ranks of a tp group, and their exchange in chunks: one chunk
// travels while another one's product is computed. (The idea is that of Wang et al., ASPLOS 2023, "Overlap
// communication with dependent computation via decomposition"; there the pieces are the ranks' shards.)
//
// The rows are cut into chunks, and each chunk into one piece per rank. A rank's shard is its pieces, one after
// another. So the gathered pieces of a chunk are consecutive rows of the sequence: products, positions and masks need
// not know about chunks, and nothing is permuted or staged. 10 rows on 2 ranks in 2 chunks:
//
//   row    0 1 2 3 4 5 | 6 7 8 9        shard of rank 0: rows 0 1 2 6 7
//   rank   0 0 0 1 1 1 | 0 0 1 1        shard of rank 1: rows 3 4 5 8 9
#pragma once

#include <memory>
#include <vector>

#include "parallel/shard.h"
#include "parallel/transport/communicator.h"

namespace carillon {

class RowShards {
 public:
  // `rows` is a multiple of `ranks`. There are at most as many chunks as a shard has rows, and one chunk if ranks is 1.
  RowShards(int64_t rows, int64_t ranks, int64_t chunks);

  int64_t rows() const { return shard_rows_ * ranks_; }  // N
  int64_t shard_rows() const { return shard_rows_; }     // N/tp
  int64_t chunks() const { return chunks_; }
  // A chunk's rows within a shard (piece), and within the N rows (chunk). Sizes differ by at most one row per rank.
  Range piece(int64_t chunk) const { return share_of(shard_rows_, chunks_, chunk); }
  Range chunk(int64_t chunk) const;
  // Which of the N rows is row `shard_row` of a rank's shard.
  int64_t row(int64_t rank, int64_t shard_row) const;

 private:
  int64_t shard_rows_, ranks_, chunks_;
};

// Whether operations that this group starts overlap with compute. They do over a device's links. In host memory the
// cores that compute also move the data, and start_… does it at once: more chunks would only make the products thinner.
bool overlaps_with_compute(const Communicator& tp);

// Number of chunks: as many as leave 2048 rows per piece, at most eight; one if exchanges do not overlap with compute.
// A chunk's product has tp · 2048 rows and 1/tp of the columns (or of the inner dimension), so its work is about the
// same for any tp. With 4096 columns it has 256 or more tiles of 128 · 256, two for each multiprocessor of an H100; a
// piece of 4096 bfloat16 channels is a message of 16 MiB. What stays exposed is the exchange of one chunk of each
// gather or scatter, an eighth of it. None of this has been measured on a GPU yet. CARILLON_TENSOR_CHUNKS=n takes n
// chunks, whether exchanges overlap or not.
int64_t tensor_chunks(int64_t shard_rows, int64_t tp, bool beside_compute);
// CARILLON_TENSOR_CHUNKS, or 0 if it is not set. Must be the same on all ranks (launch/session/ranks.cpp checks). Fails
// with error 64 if it is not a number.
int64_t requested_tensor_chunks();

// All ranks' rows of a tensor that is held in shards; for a group of one, the shard itself. The constructor starts
// every gather, chunk by chunk, so that a chunk travels while products of earlier chunks are computed. Work put on the
// queue after rows() has returned sees those rows. In the end all() must be called, or rows() up to the last row.
class RowGather {
 public:
  // work [N, ...]: receives the rows (absent for a group of one). `arrived`: an earlier gather has already filled it.
  RowGather(Communicator& tp, const RowShards& shards, Tensor work, Tensor shard, bool arrived = false);
  Tensor rows(int64_t begin, int64_t end);
  Tensor all() { return rows(0, shards_.rows()); }
  const RowShards& shards() const { return shards_; }

 private:
  RowShards shards_;
  Tensor all_;
  std::vector<std::unique_ptr<Communicator::Transfer>> arriving_;  // of each chunk
  int64_t arrived_ = 0;                                            // chunks
};

// The reverse: this rank's rows of a sum over the ranks. Each chunk is sent once done() covers its rows, and travels
// while the next ones are computed.
class RowScatter {
 public:
  // work [N, ...]: for this rank's term of the sum; for a group of one, the shard itself is written instead.
  RowScatter(Communicator& tp, const RowShards& shards, Tensor shard, Tensor work);
  Tensor rows(int64_t begin, int64_t end) const { return partial_.rows(begin, end); }  // to be written
  Tensor all() const { return partial_; }
  // Declares rows [0, end) complete: they were put on the queue and will not change.
  void done(int64_t end);
  // All rows are done; work put on the queue from now on sees the shard. Must be called in the end.
  void finish();
  const RowShards& shards() const { return shards_; }

 private:
  Communicator& tp_;
  RowShards shards_;
  Tensor shard_, partial_;
  std::vector<std::unique_ptr<Communicator::Transfer>> leaving_;  // of the chunks sent
};

}  // namespace carillon
