// Seconds to save and to load one checkpoint of 192 matrices of 8 MiB, split by rows over the ranks; the file is
// dropped from the page cache in between. Then seconds to write and sync its tensors again in place, on blocks that the
// disk has already allocated.
//   mpirun -n 2 checkpoint_benchmark FOLDER STEP    ->    RESULT MiB save load rewrite
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tensor_io.h"
#include "parallel/transport/mpi_environment.h"

namespace carillon {
namespace {

using Clock = std::chrono::steady_clock;

void forget(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  close(descriptor);
}

template <class Do>
double seconds_of(Communicator& world, Do what) {
  world.barrier();
  const auto begin = Clock::now();
  what();
  world.barrier();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void run(Communicator& world, const std::string& folder, int64_t step) {
  constexpr int64_t kTensors = 192, kRows = 1024, kColumns = 2048;
  std::vector<std::vector<float>> memory;
  std::vector<NamedShard> shards;
  const Range rows = share_of(kRows, world.size(), world.rank());
  for (int64_t number = 0; number < kTensors; ++number) {
    std::vector<float> values(static_cast<size_t>(rows.size() * kColumns));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 0.001 + number);
    memory.push_back(std::move(values));
    Rectangle rectangle{{kRows, kColumns}, {rows.begin, 0}, {rows.size(), kColumns}};
    shards.push_back({fmt::format("model/layers.{}.weight", number), rectangle,
                      Tensor(memory.back().data(), DType::kFloat32, rectangle.extent), true});
  }
  Manifest manifest;
  manifest.step = step;
  SaveResult result;
  const double save = seconds_of(world, [&] { result = save_checkpoint(world, folder, manifest, shards, 2); });
  if (!result.saved) fail(ExitCode::kInputOutput, "not saved: {}, {}, free space", result.why_not, folder);
  forget(result.path + "/state.h5");
  const double load = seconds_of(world, [&] { load_checkpoint(world, result.path, shards); });
  std::vector<TensorPart> parts;
  {
    const Hdf5File file = Hdf5File::open(result.path + "/state.h5");
    for (const NamedShard& shard : shards)
      parts.push_back(
          {shard.name, StoredType::kFloat32, file.place_of(shard.name).value(), shard.rectangle, shard.data.raw()});
  }
  const double rewrite = seconds_of(world, [&] {
    TensorWriter writer(result.path + "/state.h5");
    writer.write(parts);
    writer.sync();
  });
  if (world.rank() == 0)
    std::printf("RESULT %.1f %.4f %.4f %.4f\n", static_cast<double>(kTensors * kRows * kColumns * 4) / (1 << 20), save,
                load, rewrite);
}

}  // namespace
}  // namespace carillon

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  carillon::MpiEnvironment environment;
  try {
    carillon::run(*environment.world(), argv[1], std::atoll(argv[2]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    std::_Exit(74);  // mpirun then ends the other ranks
  }
  return 0;
}
