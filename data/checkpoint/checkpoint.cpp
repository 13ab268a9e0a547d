// Saving. The order of the steps is the protocol (data/README.md, "How a checkpoint is committed"); each is agreed upon
// by all ranks before the next begins.
#include "data/checkpoint/checkpoint.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>

#include "data/checkpoint/aggregated_write.h"
#include "data/checkpoint/leftovers.h"
#include "data/checkpoint/manifest_file.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/fail_point.h"
#include "data/files/hdf5_file.h"
#include "data/files/posix_file.h"
#include "data/files/same_files.h"
#include "runtime/check.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

void rename_or_fail(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail_to_write("cannot be renamed to " + to, error.value(), from);
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

void set_aside(const std::string& path) {
  if (!fs::exists(fs::symlink_status(path))) return;
  const fs::path target(path);
  std::string aside = (target.parent_path() / (".bad-" + target.filename().string())).string();
  for (int number = 2; fs::exists(aside); ++number)
    aside = (target.parent_path() / fmt::format(".bad-{}-{}", target.filename().string(), number)).string();
  rename_or_fail(path, aside);
}

// The machine of each rank, for ranks that write straight into one file: under one kernel they see the same pages.
// CARILLON_CHECKPOINT_IO=posix says that the file system keeps neighbouring bytes of several machines apart by itself,
// mpi that it does not even on this one.
std::vector<int> writing_machines(Communicator& world) {
  std::string wish;
  agree(world, [&] {
    const char* given = std::getenv("CARILLON_CHECKPOINT_IO");
    wish = given == nullptr ? "" : given;
    if (!wish.empty() && wish != "posix" && wish != "mpi")
      fail(ExitCode::kUsage, "CARILLON_CHECKPOINT_IO is {}, in the environment, set posix or mpi or leave it out",
           wish);
  });
  std::vector<int> machines = machines_of_ranks(world);
  wish = broadcast_text(world, wish);
  if (wish == "posix") std::fill(machines.begin(), machines.end(), 0);
  if (wish == "mpi") std::iota(machines.begin(), machines.end(), 0);
  return machines;
}

// Runs body() on every rank; all leave together. Lack of space on some, and nothing worse anywhere, is NoSpace on all.
void agree_on_writing(Communicator& world, const std::function<void()>& body) {
  std::string lack;
  agree(world, [&] {
    try {
      body();
    } catch (const NoSpace& error) {
      lack = error.what();
    }
  });
  const int64_t first = world.min(lack.empty() ? int64_t{world.size()} : int64_t{world.rank()});
  if (first < world.size()) throw NoSpace(broadcast_text(world, lack, static_cast<int>(first)));
}

void create_datasets(Hdf5File& file, const std::vector<NamedShard>& shards) {
  for (const NamedShard& shard : shards)
    file.create_dataset({shard.name, stored_type(shard.data.dtype()), shard.rectangle.global_shape});
}

// Every rank writes its parts at the places that rank 0's HDF5 gave out; syncs. Gives this rank's share of the hashes.
std::vector<int64_t> write_tensors(Communicator& world, const std::string& path,
                                   const std::vector<NamedShard>& shards) {
  std::vector<int64_t> places(shards.size(), 0);
  agree_on_writing(world, [&] {
    if (world.rank() != 0) return;
    Hdf5File file = Hdf5File::create(path);
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
  const std::vector<int> machines = writing_machines(world);
  const bool together = std::count(machines.begin(), machines.end(), machines[0]) == world.size();
  std::optional<TensorWriter> writer;
  agree_on_writing(world, [&] {
    writer.emplace(path);
    if (together) writer->write(parts);
  });
  if (!together) {
    std::exception_ptr error;
    try {
      write_aggregated(world, machines, *writer, parts);
    } catch (...) {
      error = std::current_exception();
    }
    agree_on_writing(world, [&] {
      if (error) std::rethrow_exception(error);
    });
  }
  fail_point("tensors_written", world.rank());
  agree_on_writing(world, [&] { writer->sync(); });
  std::vector<int64_t> hashes;
  for (const TensorPart& part : parts) hashes.push_back(static_cast<int64_t>(part.hash));
  return hashes;
}

void keep_newest(const std::string& folder, int64_t keep) {
  int64_t valid = 0;
  for (const CheckpointFolder& found : list_checkpoints(folder)) {
    try {
      (void)glance_at_checkpoint(found.path);
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

namespace {

void fail_to_create(const std::string& path, const std::error_code& error) {
  if (!error) return;
  if (means_no_space(error.value()) || error.value() == EIO) fail_to_write("cannot be created", error.value(), path);
  fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, make the folder writable", error.message(), path);
}

// Up to the commit: throws NoSpace on every rank, and everything is then as before.
void save_into(Communicator& world, const std::string& folder, const std::string& temporary, const std::string& path,
               Manifest& manifest, const std::vector<NamedShard>& shards) {
  int64_t bytes = 0;
  for (const NamedShard& shard : shards) {
    int64_t global = static_cast<int64_t>(size_of(shard.data.dtype()));
    for (const int64_t size : shard.rectangle.global_shape) global *= size;
    bytes += global;
  }
  agree_on_writing(world, [&] {
    if (world.rank() != 0) return;
    std::error_code error;
    fs::create_directories(folder, error);
    fail_to_create(folder, error);
    remove_checkpoint_leftovers(folder);
    if (const std::string lack = lack_of_space(folder, bytes); !lack.empty()) throw NoSpace(lack);
    fs::create_directory(temporary, error);
    fail_to_create(temporary, error);
  });
  fail_point("folder_made", world.rank());

  std::vector<int64_t> hashes = write_tensors(world, temporary + "/state.h5", shards);
  fail_point("tensors_synced", world.rank());
  world.all_reduce(Tensor::of(hashes, {static_cast<int64_t>(hashes.size())}), Reduction::kSum);
  for (size_t i = 0; i < shards.size(); ++i)
    manifest.tensors[shards[i].name] = {std::string(name_of(shards[i].data.dtype())), shards[i].rectangle.global_shape,
                                        hash_text(static_cast<uint64_t>(hashes[i]))};
  agree_on_writing(world, [&] {
    if (world.rank() != 0) return;
    write_manifest_file(temporary + "/manifest.json", manifest);
    sync_path(temporary);
    sync_path(fs::path(folder).parent_path().empty() ? "." : fs::path(folder).parent_path().string());
    fail_point("manifest_written", 0);
    set_aside(path);
    rename_or_fail(temporary, path);
  });
}

}  // namespace

void remove_checkpoint_leftovers(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::error_code ignored;
    if (name.starts_with(".del-") || name.find(".tmp-") != std::string::npos) fs::remove_all(entry->path(), ignored);
  }
}

SaveResult save_checkpoint(Communicator& world, const std::string& folder, Manifest manifest,
                           const std::vector<NamedShard>& shards, int64_t keep) {
  SaveResult result;
  result.path = folder + "/" + folder_of_step(manifest.step);
  const std::string temporary = fmt::format("{}/.tmp-{}", folder, folder_of_step(manifest.step));
  try {
    save_into(world, folder, temporary, result.path, manifest, shards);
  } catch (const NoSpace& lack) {
    result.why_not = lack.what();
    if (world.rank() == 0) {
      std::error_code ignored;  // what stays is removed by the next save
      fs::remove_all(temporary, ignored);
    }
    world.barrier();
    return result;
  }
  agree(world, [&] {
    if (world.rank() != 0) return;
    fail_point("committed", 0);
    try {
      sync_path(folder);
    } catch (const NoSpace& lack) {
      result.trouble = fmt::format("the checkpoint stands, but may not outlast a loss of power: {}", lack.what());
    }
    try {
      replace_file(folder + "/latest", folder_of_step(manifest.step) + "\n");
    } catch (const Error& error) {
      result.trouble = fmt::format("the checkpoint stands, but not the file that names it: {}", error.what());
    }
    keep_newest(folder, keep);
  });
  result.saved = true;
  return result;
}

}  // namespace carillon
