// Rows assigned to ranks in chunks, gathered and scattered; and the order in which products and exchanges are started.
#include "parallel/tensor/row_shards.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>

#include "parallel/tensor/sharded_linear.h"
#include "parallel/transport/thread_communicator.h"
#include "runtime/reference/reference_backend.h"

namespace carillon::testing {
namespace {

TEST(RowShards, ShareOutAllRowsInOrder) {
  for (const int64_t ranks : {1, 2, 3, 4})
    for (const int64_t shard : {1, 2, 5, 12})
      for (const int64_t chunks : {1, 2, 3, 5, 100}) {
        const RowShards shards(ranks * shard, ranks, chunks);
        SCOPED_TRACE(fmt::format("{} ranks, {} rows each, {} chunks", ranks, shard, chunks));
        EXPECT_EQ(shards.chunks(), ranks == 1 ? 1 : std::min(chunks, shard));
        EXPECT_EQ(shards.rows(), ranks * shard);
        // Chunk by chunk, and within each chunk rank by rank: 0, 1, 2 …
        int64_t next = 0;
        for (int64_t c = 0; c < shards.chunks(); ++c) {
          EXPECT_EQ(shards.chunk(c).begin, next);
          for (int64_t rank = 0; rank < ranks; ++rank)
            for (int64_t row = shards.piece(c).begin; row < shards.piece(c).end; ++row)
              EXPECT_EQ(shards.row(rank, row), next++);
          EXPECT_EQ(shards.chunk(c).end, next);
        }
        EXPECT_EQ(next, shards.rows());
      }
  EXPECT_THROW(RowShards(7, 2, 1), InternalError);
}

TEST(RowShards, GatherAndScatter) {
  for (const int ranks : {1, 2, 3})
    for (const int64_t shard : {3, 7})
      for (const int64_t chunks : {1, 2, 3}) {
        SCOPED_TRACE(fmt::format("{} ranks, {} rows each, {} chunks", ranks, shard, chunks));
        run_ranks(ranks, [&](std::unique_ptr<Communicator> tp) {
          const RowShards shards(ranks * shard, ranks, chunks);
          const auto rows = static_cast<size_t>(shards.rows());
          std::vector<double> own(static_cast<size_t>(shard)), work(rows, -1);
          for (int64_t row = 0; row < shard; ++row)
            own[static_cast<size_t>(row)] = static_cast<double>(shards.row(tp->rank(), row));
          RowGather gather(*tp, shards, Tensor::of(work, {shards.rows(), 1}), Tensor::of(own, {shard, 1}));
          const auto all = gather.all().span<double>();
          for (size_t row = 0; row < rows; ++row) EXPECT_EQ(all[row], static_cast<double>(row));

          // Every rank contributes (rank + 1) · row.
          RowScatter scatter(*tp, shards, Tensor::of(own, {shard, 1}), Tensor::of(work, {shards.rows(), 1}));
          const auto parts = scatter.all().span<double>();
          for (size_t row = 0; row < rows; ++row) parts[row] = static_cast<double>(row) * (tp->rank() + 1);
          scatter.finish();
          for (int64_t row = 0; row < shard; ++row)
            EXPECT_EQ(own[static_cast<size_t>(row)],
                      static_cast<double>(shards.row(tp->rank(), row) * ranks * (ranks + 1) / 2));
        });
      }
}

TEST(RowShards, AsManyChunksAsPay) {
  unsetenv("CARILLON_TENSOR_CHUNKS");
  EXPECT_EQ(tensor_chunks(1 << 20, 1, true), 1) << "nothing travels";
  EXPECT_EQ(tensor_chunks(1 << 20, 4, false), 1) << "the cores that compute carry it";
  EXPECT_EQ(tensor_chunks(4095, 2, true), 1);
  EXPECT_EQ(tensor_chunks(4096, 2, true), 2);
  EXPECT_EQ(tensor_chunks(1 << 20, 8, true), 8);
  setenv("CARILLON_TENSOR_CHUNKS", "3", 1);
  EXPECT_EQ(tensor_chunks(8, 2, false), 3);
  EXPECT_EQ(tensor_chunks(8, 1, true), 1);
  for (const char* wrong : {"0", "-1", "two", "3x"}) {
    setenv("CARILLON_TENSOR_CHUNKS", wrong, 1);
    EXPECT_THROW(tensor_chunks(8, 2, true), Error) << wrong;
  }
  unsetenv("CARILLON_TENSOR_CHUNKS");
}

// The started operations, in order: "gather 0", "wait for gather 0", "product of rows 0 to 6" …
using Journal = std::vector<std::string>;

// The first of two ranks; exchanges are numbered by chunk.
class RecordingCommunicator : public Communicator {
 public:
  RecordingCommunicator(Journal& journal, const RowShards& shards) : journal_(journal), shards_(shards) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  const std::string& name() const override { return name_; }
  std::unique_ptr<Transfer> start_all_gather(Tensor, Tensor, const std::vector<int64_t>&) override {
    return note("gather", gathers_++);
  }
  std::unique_ptr<Transfer> start_reduce_scatters(const std::vector<ReduceScatter>& parts) override {
    EXPECT_EQ(parts.size(), 1u);
    return note("scatter", scatters_++);
  }
  void all_reduce(Tensor, Reduction) override { FAIL(); }
  void all_gather(Tensor, Tensor, const std::vector<int64_t>&) override { FAIL(); }
  void reduce_scatter(Tensor, Tensor, const std::vector<int64_t>&) override { FAIL(); }
  void broadcast(Tensor, int) override { FAIL(); }
  void barrier() override { FAIL(); }
  std::unique_ptr<Transfer> start_exchange(Tensor, int, Tensor, int, Kind) override { return nullptr; }
  std::unique_ptr<Communicator> split(int, int, std::string) override { return nullptr; }

 private:
  struct Noted : Transfer {
    Noted(Journal& to, std::string as) : journal(to), what(std::move(as)) {}
    void wait() override { journal.push_back("wait for " + what); }
    Journal& journal;
    std::string what;
  };
  std::unique_ptr<Transfer> note(const char* what, int64_t chunk) {
    EXPECT_LT(chunk, shards_.chunks());
    journal_.push_back(fmt::format("{} {}", what, chunk));
    return std::make_unique<Noted>(journal_, journal_.back());
  }
  Journal& journal_;
  const RowShards& shards_;
  std::string name_ = "tp";
  int64_t gathers_ = 0, scatters_ = 0;
};

// Records the rows that a product reads and writes.
class RecordingBackend : public ReferenceBackend {
 public:
  RecordingBackend(Journal& journal, Tensor x, Tensor y) : journal_(journal), x_(x), y_(y) {}
  void matmul(Tensor c, Tensor a, Tensor, Transpose transpose_a, Transpose, bool) override {
    if (transpose_a == Transpose::kYes) return journal_.push_back("product by weight");
    EXPECT_EQ(first_row(c, y_), first_row(a, x_));
    journal_.push_back(fmt::format("product of rows {} to {}", first_row(a, x_), first_row(a, x_) + a.size(0)));
  }
  void bias_backward(Tensor, Tensor) override { journal_.push_back("bias"); }
  void add_bias(Tensor, Tensor) override { journal_.push_back("bias"); }

 private:
  static int64_t first_row(Tensor part, Tensor whole) {
    return (part.data<double>() - whole.data<double>()) / whole.size(1);
  }
  Journal& journal_;
  Tensor x_, y_;
};

struct Layer {
  // 5 rows per rank in 2 chunks of 3 and 2, so chunks of 6 and 4 rows over both ranks.
  RowShards shards{10, 2, 2};
  std::vector<double> x_shard = std::vector<double>(5 * 4), x = std::vector<double>(10 * 4),
                      y = std::vector<double>(10 * 3), y_shard = std::vector<double>(5 * 3),
                      w = std::vector<double>(3 * 4), b = std::vector<double>(3);
  Journal journal;
  RecordingCommunicator tp{journal, shards};
  Tensor all_x() { return Tensor::of(x, {10, 4}); }
  Tensor all_y() { return Tensor::of(y, {10, 3}); }
  Linear linear() {
    const Tensor weight = Tensor::of(w, {3, 4}), bias = Tensor::of(b, {3});
    return {weight, {}, bias, weight, bias, {}};
  }
  RowGather gathered_x() { return {tp, shards, all_x(), Tensor::of(x_shard, {5, 4})}; }
};

TEST(ShardedLinear, TheNextChunkIsOnItsWayBeforeAProduct) {
  Layer layer;
  RecordingBackend backend(layer.journal, layer.all_x(), layer.all_y());
  RowGather x = layer.gathered_x();
  column_parallel_forward(backend, layer.all_y(), x, layer.linear(), {});
  EXPECT_EQ(layer.journal, (Journal{"gather 0", "gather 1", "wait for gather 0", "product of rows 0 to 6",
                                    "wait for gather 1", "product of rows 6 to 10", "bias"}));
}

TEST(ShardedLinear, AChunkLeavesBeforeTheNextProduct) {
  Layer layer;
  RecordingBackend backend(layer.journal, layer.all_x(), layer.all_y());
  RowScatter y(layer.tp, layer.shards, Tensor::of(layer.y_shard, {5, 3}), layer.all_y());
  row_parallel_forward(backend, y, layer.all_x(), layer.linear(), {});
  EXPECT_EQ(layer.journal, (Journal{"product of rows 0 to 6", "scatter 0", "product of rows 6 to 10", "scatter 1",
                                    "wait for scatter 0", "wait for scatter 1"}));
}

TEST(ShardedLinear, GradientsTravelBesideTheOneByTheWeight) {
  Layer layer;
  // dx from dy: the product goes from y to x.
  RecordingBackend backend(layer.journal, layer.all_y(), layer.all_x());
  RowGather x = layer.gathered_x();
  RowScatter dx(layer.tp, layer.shards, Tensor::of(layer.x_shard, {5, 4}), layer.all_x());
  column_parallel_backward(backend, dx, layer.all_y(), x, layer.linear(), {}, true);
  EXPECT_EQ(layer.journal, (Journal{"gather 0", "gather 1", "product of rows 0 to 6", "scatter 0",
                                    "product of rows 6 to 10", "scatter 1", "wait for gather 0", "wait for gather 1",
                                    "product by weight", "bias", "wait for scatter 0", "wait for scatter 1"}));
}

// Tiles are independent of chunks: a tile waits for the chunks it reads, and chunks are sent when complete.
TEST(ShardedLinear, TilesMeetChunks) {
  Layer layer;
  RowGather x = layer.gathered_x();
  RowScatter y(layer.tp, layer.shards, Tensor::of(layer.y_shard, {5, 3}), layer.all_y());
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 4}, {4, 8}, {8, 10}}) {
    EXPECT_EQ(x.rows(begin, end).size(0), end - begin);
    layer.journal.push_back(fmt::format("tile {}", begin));
    y.done(end);
  }
  y.finish();
  EXPECT_EQ(layer.journal,
            (Journal{"gather 0", "gather 1", "wait for gather 0", "tile 0", "wait for gather 1", "tile 4", "scatter 0",
                     "tile 8", "scatter 1", "wait for scatter 0", "wait for scatter 1"}));
}

}  // namespace
}  // namespace carillon::testing
