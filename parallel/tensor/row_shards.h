// The N rows of the residual, allocated to the ranks of a tp group, and their exchange in chunks: one travels while the
// product of another is computed (Wang et al., ASPLOS 2023, "Overlap communication with dependent computation via
// decomposition", have the idea; there the pieces are the ranks' shards).
//
// The rows are cut into chunks and each chunk into a piece for every rank; a rank's shard is its pieces, one after
// another. So a chunk's pieces, gathered, are rows in the order of the sequence, where they belong: no product, no
// position and no mask knows of chunks, nothing is permuted or staged. 10 rows on 2 ranks in 2 chunks:
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
  // `rows` a multiple of `ranks`; as many chunks as there are rows in a shard, at most. With one rank there is one.
  RowShards(int64_t rows, int64_t ranks, int64_t chunks);

  int64_t rows() const { return shard_rows_ * ranks_; }  // N
  int64_t shard_rows() const { return shard_rows_; }     // N/tp
  int64_t chunks() const { return chunks_; }
  // A chunk's rows among those of a shard, and among the N. Sizes differ by at most one row a rank.
  Range piece(int64_t chunk) const { return share_of(shard_rows_, chunks_, chunk); }
  Range chunk(int64_t chunk) const;
  // Of the N rows, the one that is row `shard_row` of a rank's shard.
  int64_t row(int64_t rank, int64_t shard_row) const;

 private:
  int64_t shard_rows_, ranks_, chunks_;
};

// Whether what this group starts travels beside compute: over a device's links. In host memory the cores that compute
// carry it too, and start_… does it at once: more chunks would only make the products thinner.
bool travels_beside_compute(const Communicator& tp);

// How many chunks: as many as leave a piece 2048 rows, eight at most; one where exchanges do not travel beside compute.
// A chunk's product has tp · 2048 rows and 1/tp of the columns (or of what is summed), so about as much work whatever
// tp is: with 4096 columns 256 tiles of 128 · 256 or more, two for each multiprocessor of an H100; a piece of 4096
// bfloat16 channels is a message of 16 MiB. What stays exposed is one chunk's exchange of each gather or scatter, an
// eighth of it. None of this was measured on a GPU yet: CARILLON_TENSOR_CHUNKS=n takes n chunks whatever travels.
int64_t tensor_chunks(int64_t shard_rows, int64_t tp, bool beside_compute);
// CARILLON_TENSOR_CHUNKS; 0: not set. Must be the same on all ranks (launch/session/ranks.cpp asks). Error 64 for no
// number.
int64_t wished_tensor_chunks();

// All ranks' rows of a tensor whose shards they hold; with a group of one the shard itself. Every gather is started
// when this is made, chunk by chunk, so that a chunk travels while products of those before it are computed. Work put
// on the queue after a call that returns rows sees them; call all() in the end, or rows() up to the last.
class RowGather {
 public:
  // work [N, ...]: where the rows come (absent with a group of one). `arrived`: they are there from a gather before.
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

// The way back: this rank's rows of a sum over the ranks. Each chunk is sent once its rows are said to be done and
// travels while the next ones are computed.
class RowScatter {
 public:
  // work [N, ...]: for this rank's part of the sum; with a group of one it is the shard itself that is written.
  RowScatter(Communicator& tp, const RowShards& shards, Tensor shard, Tensor work);
  Tensor rows(int64_t begin, int64_t end) const { return partial_.rows(begin, end); }  // to be written
  Tensor all() const { return partial_; }
  // Rows [0, end) were put on the queue and change no more.
  void done(int64_t end);
  // All rows are done; work put on the queue from now on sees the shard. To be called in the end.
  void finish();
  const RowShards& shards() const { return shards_; }

 private:
  Communicator& tp_;
  RowShards shards_;
  Tensor shard_, partial_;
  std::vector<std::unique_ptr<Communicator::Transfer>> leaving_;  // of the chunks sent
};

}  // namespace carillon
