// Checkpoints and models to and from device memory that the host cannot read: two processes, both ways of writing,
// tensors longer than a staging buffer, and a resume on the host.
#include <gtest/gtest.h>

#include <cstdlib>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/stored_values.h"
#include "data/checkpoint/tensor_io.h"
#include "runtime/rng.h"
#include "tests/support/device_memory.h"
#include "tests/support/mpi_world.h"
#include "tests/support/temporary_folder.h"

namespace carillon::testing {
namespace {

struct Part {
  std::string name;
  Rectangle rectangle;
  std::vector<float> values;
};

// Rows or columns of matrices, a vector, parts without rows, and one part longer than a staging buffer.
std::vector<Part> parts_of(const Communicator& world) {
  std::vector<Part> parts;
  const auto add = [&](const char* name, std::vector<int64_t> shape, size_t dim, bool only_first = false) {
    Part part{name, Rectangle::whole(shape), {}};
    const Range range =
        only_first ? Range{0, world.rank() == 0 ? shape[dim] : 0} : share_of(shape[dim], world.size(), world.rank());
    part.rectangle.offset[dim] = range.begin;
    part.rectangle.extent[dim] = range.size();
    part.values.resize(static_cast<size_t>(part.rectangle.count()));
    const int64_t columns = shape.size() == 2 ? part.rectangle.extent[1] : 1, width = shape.size() == 2 ? shape[1] : 1;
    const int64_t first_column = shape.size() == 2 ? part.rectangle.offset[1] : 0;
    for (size_t i = 0; i < part.values.size(); ++i) {
      const int64_t at = static_cast<int64_t>(i);
      const int64_t place = (part.rectangle.offset[0] + at / columns) * width + first_column + at % columns;
      part.values[i] = static_cast<float>(place % 65521) + 0.5f * static_cast<float>(shape.size());
    }
    parts.push_back(std::move(part));
  };
  add("model/a", {37, 19}, 0);
  add("model/b", {37, 19}, 1);
  add("model/c", {41}, 0);
  add("model/d", {5, 3}, 0, true);
  add("model/large", {2200, 8191}, 0, true);
  return parts;
}
static_assert(int64_t{2200} * 8191 * 4 > kStagedBytes);

// Shards in device memory (or host memory), with the values of the parts or zeros.
std::vector<NamedShard> shards_of(std::vector<Part>& parts, DeviceMemory& memory, Backend* device, bool zero,
                                  std::vector<std::vector<float>>& hosts) {
  std::vector<NamedShard> shards;
  for (Part& part : parts) {
    hosts.push_back(zero ? std::vector<float>(part.values.size()) : part.values);
    const Tensor host(hosts.back().data(), DType::kFloat32, part.rectangle.extent);
    shards.push_back({part.name, part.rectangle, device == nullptr ? host : memory.give(host), true, device});
  }
  return shards;
}

TEST(CheckpointOfADevice, IsTheHostsAndComesBack) {
  const std::unique_ptr<Communicator> world = mpi_world();
  const auto backend = make_test_backend({.device = "isolated", .threads = 1});
  std::optional<TemporaryFolder> owned;
  if (world->rank() == 0) owned.emplace();
  const std::string folder = broadcast_text(*world, owned ? owned->path() : "");
  std::vector<Part> parts = parts_of(*world);
  std::vector<std::vector<float>> hosts;
  hosts.reserve(100);
  int64_t step = 0;
  std::map<std::string, std::string> hashes;
  for (Backend* device : {static_cast<Backend*>(nullptr), backend.get()})
    for (const char* way : {"posix", "mpi"}) {
      SCOPED_TRACE(fmt::format("{} {}", device == nullptr ? "host" : "device", way));
      setenv("CARILLON_CHECKPOINT_IO", way, 1);
      DeviceMemory memory(*backend);
      Manifest manifest;
      manifest.step = ++step;
      const SaveResult result =
          save_checkpoint(*world, folder, manifest, shards_of(parts, memory, device, false, hosts), 2);
      ASSERT_TRUE(result.saved) << result.why_not;
      for (const auto& [name, entry] : read_manifest(result.path).tensors) {
        if (step == 1) hashes[name] = entry.hash;
        EXPECT_EQ(entry.hash, hashes[name]) << name;
      }
      // Loaded into the other memory: written on one kind of device, resumed on the other.
      Backend* other = device == nullptr ? backend.get() : nullptr;
      std::vector<NamedShard> shards = shards_of(parts, memory, other, true, hosts);
      load_checkpoint(*world, result.path, shards);
      for (size_t i = 0; i < parts.size(); ++i) {
        std::vector<float> got(parts[i].values.size());
        if (other == nullptr)
          got = hosts[hosts.size() - parts.size() + i];
        else
          memory.take(Tensor(got.data(), DType::kFloat32, parts[i].rectangle.extent), shards[i].data);
        EXPECT_TRUE(got == parts[i].values) << parts[i].name;
      }
      hosts.clear();
      world->barrier();
    }
  unsetenv("CARILLON_CHECKPOINT_IO");
}

TEST(ShardOfADevice, IsFilledWithStoredNumbers) {
  const auto backend = make_test_backend({.device = "isolated", .threads = 1});
  DeviceMemory memory(*backend);
  std::vector<double> zeros(6);
  const Tensor device = memory.give(Tensor::of(zeros, {2, 3}));
  const std::vector<float> stored{1, 2, 3, 4, 5, 6.5};
  fill_shard({"w", Rectangle::whole({2, 3}), device, true, backend.get()}, stored.data(), StoredType::kFloat32);
  EXPECT_EQ(download_as_double(*backend, device), (std::vector<double>{1, 2, 3, 4, 5, 6.5}));
}

}  // namespace
}  // namespace carillon::testing
