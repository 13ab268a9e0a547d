// Saving. The order of the steps is the protocol (data/README.md, "How a checkpoint is committed"); each is agreed upon
// by all ranks before the next begins.
#include "data/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "data/checkpoint/manifest_file.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/fail_point.h"
#include "data/files/hdf5_file.h"
#include "data/files/output_file.h"
#include "parallel/transport/mpi_native.h"
#include "runtime/backend.h"
#include "runtime/check.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

std::string step_name(int64_t step) { return fmt::format("step-{:08}", step); }

void sync_path(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool good = descriptor >= 0 && fsync(descriptor) == 0;
  const int reason = errno;
  if (descriptor >= 0) close(descriptor);
  if (!good) fail(ExitCode::kInputOutput, "cannot be synced ({}), {}, check the disk", std::strerror(reason), path);
}

void rename_or_fail(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    fail(ExitCode::kInputOutput, "cannot be renamed to {} ({}), {}, check the disk", to, error.message(), from);
}

// A tenth more than the bytes themselves, for metadata and rounding to blocks.
std::string lack_of_space(const std::string& folder, int64_t bytes) {
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) return "";
  const double available = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  const double needed = 1.1 * static_cast<double>(bytes) + (1 << 20);
  if (available >= needed) return "";
  return fmt::format("{:.1f} MiB needed, {:.1f} MiB free", needed / (1 << 20), available / (1 << 20));
}

// What a run that died left behind.
void remove_leftovers(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(".tmp-") || name.starts_with(".del-")) fs::remove_all(entry.path(), error);
  }
}

void set_aside(const std::string& path) {
  if (!fs::exists(path)) return;
  const fs::path target(path);
  std::string aside = (target.parent_path() / (".bad-" + target.filename().string())).string();
  for (int number = 2; fs::exists(aside); ++number)
    aside = (target.parent_path() / fmt::format(".bad-{}-{}", target.filename().string(), number)).string();
  rename_or_fail(path, aside);
}

// Whether all ranks run under one kernel: then they see one another's bytes of a file at once. A rank that cannot tell
// counts as elsewhere.
bool on_one_machine(Communicator& world) {
  if (world.size() == 1 || !mpi_native(world)) return true;
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot(std::istreambuf_iterator<char>(file), {});
  if (boot.empty()) boot = std::to_string(world.rank());
  const auto hash = static_cast<int64_t>(std::stoull(text_hash(boot).substr(0, 15), nullptr, 16));
  return world.max(hash) == world.min(hash);
}

// Straight into the file, where every rank sees the same pages; through MPI-IO over several machines, whose file
// systems may lose neighbouring bytes that two machines write at once. CARILLON_CHECKPOINT_IO=posix or mpi decides.
bool writes_straight(Communicator& world) {
  const char* wish = std::getenv("CARILLON_CHECKPOINT_IO");
  const bool mpi = wish != nullptr && std::string_view(wish) == "mpi";
  const bool posix = wish != nullptr && std::string_view(wish) == "posix";
  const bool possible = world.size() > 1 && mpi_native(world).has_value();
  return world.max(int64_t{possible && mpi ? 1 : 0}) == 0 && (posix || on_one_machine(world));
}

void create_datasets(Hdf5File& file, const std::vector<NamedShard>& shards) {
  for (const NamedShard& shard : shards)
    file.create_dataset({shard.name, stored_type(shard.data.dtype()), shard.rectangle.global_shape});
}

// Every rank writes its parts at the places that rank 0's HDF5 allocated; syncs. Gives this rank's share of the hashes.
std::vector<int64_t> write_straight(Communicator& world, const std::string& path,
                                    const std::vector<NamedShard>& shards) {
  std::vector<int64_t> places(shards.size(), 0);
  agree(world, [&] {
    if (world.rank() != 0) return;
    Hdf5File file = Hdf5File::create(path, *solo_communicator("file"));
    create_datasets(file, shards);
    for (size_t i = 0; i < shards.size(); ++i) places[i] = file.place_of(shards[i].name).value_or(0);
    file.close();
  });
  world.all_reduce(Tensor::of(places, {static_cast<int64_t>(places.size())}), Reduction::kSum);
  std::vector<TensorPart> parts;
  for (size_t i = 0; i < shards.size(); ++i) {
    const NamedShard& shard = shards[i];
    parts.push_back({shard.name, stored_type(shard.data.dtype()), places[i], shard.rectangle, shard.data.raw()});
    parts.back().device = shard.device;
    if (!shard.owned) parts.back().rectangle.extent[0] = 0;
    CHECK(parts.back().rectangle.empty() || places[i] > 0, "datasets are contiguous", shard.name);
  }
  std::optional<TensorWriter> writer;
  agree(world, [&] {
    writer.emplace(path);
    writer->write(parts);
  });
  fail_point("tensors_written", world.rank());
  agree(world, [&] { writer->sync(); });
  std::vector<int64_t> hashes;
  for (const TensorPart& part : parts) hashes.push_back(static_cast<int64_t>(part.hash));
  return hashes;
}

std::vector<int64_t> write_collectively(Communicator& world, const std::string& path,
                                        const std::vector<NamedShard>& shards) {
  std::optional<Hdf5File> file;
  agree(world, [&] {
    file.emplace(Hdf5File::create(path, world));
    create_datasets(*file, shards);
  });
  std::vector<int64_t> hashes;
  std::vector<char> staged;  // one shard of a device's memory at a time: all ranks make the same calls
  for (const NamedShard& shard : shards)
    agree(world, [&] {
      Rectangle rectangle = shard.rectangle;
      if (!shard.owned) rectangle.extent[0] = 0;
      const void* data = shard.data.raw();
      if (shard.device != nullptr && !rectangle.empty()) {
        staged.resize(shard.data.bytes());
        shard.device->download(Tensor(staged.data(), shard.data.dtype(), shard.data.shape()), shard.data);
        data = staged.data();
      }
      file->write(shard.name, rectangle, data);
      hashes.push_back(rectangle.empty() ? 0
                                         : static_cast<int64_t>(hash_rectangle(
                                               shard.name, rectangle, data, size_of(stored_type(shard.data.dtype())))));
    });
  fail_point("tensors_written", world.rank());
  agree(world, [&] { file->close(); });
  agree(world, [&] { sync_path(path); });
  return hashes;
}

void keep_newest(const std::string& folder, int64_t keep) {
  int64_t valid = 0;
  for (const CheckpointFolder& found : list_checkpoints(folder)) {
    try {
      read_manifest(found.path);
    } catch (const Error&) {
      continue;  // neither counted nor removed: somebody may want to look at it
    }
    if (++valid <= std::max<int64_t>(keep, 2)) continue;
    std::error_code error;
    const std::string doomed = folder + "/.del-" + fs::path(found.path).filename().string();
    fs::rename(found.path, doomed, error);
    if (!error) fs::remove_all(doomed, error);  // a failure costs space only; the next save tries again
  }
}

}  // namespace

SaveResult save_checkpoint(Communicator& world, const std::string& folder, Manifest manifest,
                           const std::vector<NamedShard>& shards, int64_t keep) {
  SaveResult result;
  result.path = folder + "/" + step_name(manifest.step);
  const std::string temporary = fmt::format("{}/.tmp-{}", folder, step_name(manifest.step));
  int64_t bytes = 0;
  for (const NamedShard& shard : shards) {
    int64_t global = static_cast<int64_t>(size_of(shard.data.dtype()));
    for (const int64_t size : shard.rectangle.global_shape) global *= size;
    bytes += global;
  }
  agree(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    fs::create_directories(folder, error);
    if (error)
      fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, make the folder writable", error.message(), folder);
    remove_leftovers(folder);
    result.why_not = lack_of_space(folder, bytes);
    if (!result.why_not.empty()) return;
    if (!fs::create_directory(temporary, error))
      fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, make the folder writable", error.message(), temporary);
  });
  result.why_not = broadcast_text(world, result.why_not);
  if (!result.why_not.empty()) return result;
  fail_point("folder_made", world.rank());

  const std::string state = temporary + "/state.h5";
  std::vector<int64_t> hashes =
      writes_straight(world) ? write_straight(world, state, shards) : write_collectively(world, state, shards);
  fail_point("tensors_synced", world.rank());
  world.all_reduce(Tensor::of(hashes, {static_cast<int64_t>(hashes.size())}), Reduction::kSum);
  for (size_t i = 0; i < shards.size(); ++i)
    manifest.tensors[shards[i].name] = {std::string(name_of(shards[i].data.dtype())), shards[i].rectangle.global_shape,
                                        hash_text(static_cast<uint64_t>(hashes[i]))};
  agree(world, [&] {
    if (world.rank() != 0) return;
    write_manifest_file(temporary + "/manifest.json", manifest);
    sync_path(temporary);
    fail_point("manifest_written", 0);
    set_aside(result.path);
    rename_or_fail(temporary, result.path);
    fail_point("committed", 0);
    sync_path(folder);
    OutputFile latest(folder + "/latest");
    latest.write(step_name(manifest.step) + "\n");
    latest.commit();
    keep_newest(folder, keep);
  });
  result.saved = true;
  return result;
}

}  // namespace carillon
