// Two processes write one checkpoint, directly and as if on two machines: both give the same bytes, and both can be
// read.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "data/checkpoint/checkpoint.h"
#include "tests/support/mpi_world.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

constexpr int64_t kRows = 1037, kColumns = 619;  // 2.4 MiB: some blocks belong to one rank, others to both

TEST(CheckpointRanks, BothWaysOfWritingAreOne) {
  const std::unique_ptr<Communicator> world = mpi_world();
  std::optional<TemporaryFolder> owned;
  if (world->rank() == 0) owned.emplace();
  const std::string folder = broadcast_text(*world, owned ? owned->path() : "");
  std::vector<std::string> hashes;
  int64_t step = 0;
  for (const char* way : {"posix", "mpi"})
    for (const size_t dim : {0, 1}) {
      setenv("CARILLON_CHECKPOINT_IO", way, 1);
      Rectangle mine = Rectangle::whole({kRows, kColumns});
      const Range range = share_of(mine.extent[dim], world->size(), world->rank());
      mine.offset[dim] = range.begin;
      mine.extent[dim] = range.size();
      std::vector<float> values(static_cast<size_t>(mine.count()));
      for (int64_t i = 0; i < mine.count(); ++i)
        values[static_cast<size_t>(i)] =
            static_cast<float>((mine.offset[0] + i / mine.extent[1]) * kColumns + mine.offset[1] + i % mine.extent[1]);
      const std::vector<float> expected = values;
      std::vector<NamedShard> shards{{"model/a", mine, Tensor(values.data(), DType::kFloat32, mine.extent), true}};
      Manifest manifest;
      manifest.step = ++step;
      const SaveResult result = save_checkpoint(*world, folder, manifest, shards, 10);
      ASSERT_TRUE(result.saved) << result.why_not;
      hashes.push_back(read_manifest(result.path).tensors.at("model/a").hash);
      EXPECT_EQ(hashes.back(), hashes.front()) << way << dim;
      std::fill(values.begin(), values.end(), 0.0f);
      load_checkpoint(*world, result.path, shards);
      EXPECT_EQ(values, expected) << way << dim;
      world->barrier();
    }
  unsetenv("CARILLON_CHECKPOINT_IO");
}

}  // namespace
}  // namespace carillon::testing
