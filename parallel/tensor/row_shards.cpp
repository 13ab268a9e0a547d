#include "parallel/tensor/row_shards.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "parallel/transport/device_communicator.h"

namespace carillon {

RowShards::RowShards(int64_t rows, int64_t ranks, int64_t chunks)
    : shard_rows_(rows / ranks),
      ranks_(ranks),
      chunks_(ranks == 1 ? 1 : std::clamp<int64_t>(chunks, 1, std::max<int64_t>(1, rows / ranks))) {
  CHECK(rows % ranks == 0, "every tp rank holds as many rows", rows, ranks);
}

Range RowShards::chunk(int64_t chunk) const {
  const Range own = piece(chunk);
  return {own.begin * ranks_, own.end * ranks_};
}

int64_t RowShards::row(int64_t rank, int64_t shard_row) const {
  // Finds the chunk (a range of share_of) that holds the row: the first ones are a row longer.
  const int64_t base = shard_rows_ / chunks_, longer = shard_rows_ % chunks_, of_longer = longer * (base + 1);
  const int64_t index = shard_row < of_longer ? shard_row / (base + 1) : longer + (shard_row - of_longer) / base;
  const Range own = piece(index);
  return chunk(index).begin + rank * own.size() + shard_row - own.begin;
}

bool overlaps_with_compute(const Communicator& tp) {
  const DeviceTransport* transport = device_transport_of(tp);
  return transport != nullptr && !transport->through_host();
}

int64_t requested_tensor_chunks() {
  const char* text = std::getenv("CARILLON_TENSOR_CHUNKS");
  if (text == nullptr || *text == '\0') return 0;
  int64_t chunks = 0;
  const char* end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, chunks);
  if (error != std::errc() || stopped != end || chunks < 1)
    fail(ExitCode::kUsage, "CARILLON_TENSOR_CHUNKS={} is not a number of chunks, in the environment, unset it", text);
  return chunks;
}

int64_t tensor_chunks(int64_t shard_rows, int64_t tp, bool beside_compute) {
  constexpr int64_t kPieceRows = 2048, kMost = 8;
  if (tp == 1) return 1;
  if (const int64_t wished = requested_tensor_chunks(); wished > 0) return wished;
  return beside_compute ? std::clamp<int64_t>(shard_rows / kPieceRows, 1, kMost) : 1;
}

RowGather::RowGather(Communicator& tp, const RowShards& shards, Tensor work, Tensor shard, bool arrived)
    : shards_(shards), all_(tp.size() == 1 ? shard : work) {
  CHECK(all_.size(0) == shards.rows() && shard.size(0) == shards.shard_rows(), "rows to gather", all_.size(0),
        shard.size(0));
  if (tp.size() == 1 || arrived) return;
  for (int64_t c = 0; c < shards.chunks(); ++c) {
    const Range to = shards.chunk(c), from = shards.piece(c);
    arriving_.push_back(tp.start_all_gather(all_.rows(to.begin, to.end), shard.rows(from.begin, from.end)));
  }
}

Tensor RowGather::rows(int64_t begin, int64_t end) {
  const auto chunks = static_cast<int64_t>(arriving_.size());
  for (; arrived_ < chunks && shards_.chunk(arrived_).begin < end; ++arrived_)
    arriving_[static_cast<size_t>(arrived_)]->wait();
  return all_.rows(begin, end);
}

RowScatter::RowScatter(Communicator& tp, const RowShards& shards, Tensor shard, Tensor work)
    : tp_(tp), shards_(shards), shard_(shard), partial_(tp.size() == 1 ? shard : work) {
  CHECK(partial_.size(0) == shards.rows() && shard.size(0) == shards.shard_rows(), "rows to scatter", partial_.size(0),
        shard.size(0));
}

void RowScatter::done(int64_t end) {
  if (tp_.size() == 1) return;
  for (auto c = static_cast<int64_t>(leaving_.size()); c < shards_.chunks() && shards_.chunk(c).end <= end; ++c) {
    const Range to = shards_.piece(c), from = shards_.chunk(c);
    leaving_.push_back(tp_.start_reduce_scatter(shard_.rows(to.begin, to.end), partial_.rows(from.begin, from.end)));
  }
}

void RowScatter::finish() {
  done(shards_.rows());
  for (const auto& transfer : leaving_) transfer->wait();
}

}  // namespace carillon
