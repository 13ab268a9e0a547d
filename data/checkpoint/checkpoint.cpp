// Saving. The order of the steps is the protocol (data/README.md, "How a checkpoint is committed"); all ranks agree on
// the result of each before the next begins.
#include "data/checkpoint/checkpoint.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>

#include "data/checkpoint/aggregated_write.h"
#include "data/checkpoint/checkpoint_save.h"
#include "data/checkpoint/leftovers.h"
#include "data/checkpoint/manifest_file.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/fail_point.h"
#include "data/files/hdf5_file.h"
#include "data/files/posix_file.h"
#include "data/files/same_files.h"
#include "runtime/backend.h"
#include "runtime/check.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

void rename_or_fail(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail_to_write("cannot be renamed to " + to, error.value(), from);
}

// Asks for a tenth more than the bytes themselves, for metadata and rounding to blocks.
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

// Returns the machine of each rank; ranks under one kernel see the same pages of the file and can write to it directly.
// CARILLON_CHECKPOINT_IO=posix declares that the file system keeps neighbouring bytes of several machines apart by
// itself, and mpi that it does not even do so for the ranks of one machine.
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

// Runs body() on every rank; all of them return or throw together. If some lack space and nothing worse happened, all
// throw NoSpace.
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

// Renames all but the newest checkpoints out of sight; returns their new paths.
std::vector<std::string> keep_newest(const std::string& folder, int64_t keep, int64_t best) {
  std::vector<std::string> superseded;
  int64_t valid = 0;
  for (const CheckpointFolder& found : list_checkpoints(folder)) {
    try {
      (void)read_manifest_if_complete(found.path);
    } catch (const Error&) {
      continue;  // neither counted nor removed: the user may want to examine it
    }
    if (++valid <= std::max<int64_t>(keep, 2) || found.step == best) continue;
    std::error_code error;
    const std::string doomed = folder + "/.del-" + fs::path(found.path).filename().string();
    fs::rename(found.path, doomed, error);
    if (!error) superseded.push_back(doomed);
  }
  return superseded;
}

}  // namespace

namespace {

void check_created(const std::string& path, const std::error_code& error) {
  if (!error) return;
  fail_to_create("cannot be created", error.value(), path, "make the folder writable");
}

}  // namespace

void remove_folders(const std::vector<std::string>& paths) {
  std::error_code ignored;
  for (const std::string& path : paths) fs::remove_all(path, ignored);
}

void remove_checkpoint_leftovers(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename();
    std::error_code ignored;
    if (name.starts_with(".del-") || name.find(".tmp-") != std::string::npos) fs::remove_all(entry->path(), ignored);
  }
}

CheckpointSave::CheckpointSave(Communicator& world, std::string folder, Manifest manifest)
    : world_(world),
      folder_(std::move(folder)),
      path_(folder_ + "/" + folder_of_step(manifest.step)),
      temporary_(fmt::format("{}/.tmp-{}", folder_, folder_of_step(manifest.step))),
      manifest_(std::move(manifest)) {}

CheckpointSave::~CheckpointSave() = default;

void CheckpointSave::prepare(const std::vector<NamedShard>& shards) {
  int64_t bytes = 0;
  for (const NamedShard& shard : shards) {
    int64_t global = static_cast<int64_t>(size_of(shard.data.dtype()));
    for (const int64_t size : shard.rectangle.global_shape) global *= size;
    bytes += global;
  }
  agree_on_writing(world_, [&] {
    if (world_.rank() != 0) return;
    std::error_code error;
    fs::create_directories(folder_, error);
    check_created(folder_, error);
    remove_checkpoint_leftovers(folder_);
    if (const std::string lack = lack_of_space(folder_, bytes); !lack.empty()) throw NoSpace(lack);
    fs::create_directory(temporary_, error);
    check_created(temporary_, error);
  });
  fail_point("folder_made", world_.rank());

  const std::string file = temporary_ + "/state.h5";
  std::vector<int64_t> places(shards.size(), 0);
  agree_on_writing(world_, [&] {
    if (world_.rank() != 0) return;
    Hdf5File made = Hdf5File::create(file);
    create_datasets(made, shards);
    for (size_t i = 0; i < shards.size(); ++i) places[i] = made.place_of(shards[i].name).value_or(0);
    made.close();
  });
  world_.all_reduce(Tensor::of(places, {static_cast<int64_t>(places.size())}), Reduction::kSum);
  for (size_t i = 0; i < shards.size(); ++i) {
    const NamedShard& shard = shards[i];
    dtypes_.emplace_back(name_of(shard.data.dtype()));
    parts_.push_back({shard.name, stored_type(shard.data.dtype()), places[i], shard.rectangle, shard.data.raw()});
    parts_.back().device = shard.device;
    if (!shard.owned) parts_.back().rectangle.extent[0] = 0;
    CHECK(parts_.back().rectangle.empty() || places[i] > 0, "datasets are contiguous", shard.name);
  }
  machines_ = writing_machines(world_);
  agree_on_writing(world_, [&] { writer_.emplace(file); });
}

bool CheckpointSave::written_by_one_machine() const {
  return std::count(machines_.begin(), machines_.end(), machines_[0]) == world_.size();
}

void CheckpointSave::write() {
  if (written_by_one_machine())
    writer_->write(parts_);
  else
    write_aggregated(world_, machines_, *writer_, parts_);
  fail_point("tensors_written", world_.rank());
  writer_->sync();
}

namespace {

// Stores what write_aggregated hands out: our own parts, and other ranks' bytes for our blocks.
class CopySink final : public TensorSink {
 public:
  explicit CopySink(CheckpointCopy& copy) : copy_(copy) {}
  void write(std::vector<TensorPart>& parts) override { copy_.whole = parts; }
  void write_bytes(const TensorPart& part, int64_t place, const char* data, int64_t bytes) override {
    copy_.pieces.push_back({part.name, place, copy_.others.size(), bytes});
    copy_.others.insert(copy_.others.end(), data, data + bytes);
  }

 private:
  CheckpointCopy& copy_;
};

constexpr size_t kAlignment = 64;
size_t bytes_of(const TensorPart& part) {
  return part.rectangle.empty() ? 0 : static_cast<size_t>(part.rectangle.count()) * size_of(part.type);
}

}  // namespace

size_t CheckpointCopy::bytes_for(const std::vector<NamedShard>& shards) {
  size_t bytes = 0;
  for (const NamedShard& shard : shards)
    if (shard.owned && !shard.rectangle.empty())
      bytes += (static_cast<size_t>(shard.rectangle.count()) * size_of(shard.data.dtype()) + kAlignment - 1) /
               kAlignment * kAlignment;
  return bytes;
}

char* CheckpointCopy::take(size_t bytes) {
  CHECK(used + bytes <= memory.bytes(), "memory was taken for all of a checkpoint", used, bytes, memory.bytes());
  char* taken = static_cast<char*>(memory.data()) + used;
  used += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return taken;
}

void CheckpointSave::begin_copy(CheckpointCopy& copy) {
  copy.used = 0;
  copy.whole.clear();
  copy.pieces.clear();
  copy.others.clear();
  for (TensorPart& part : parts_) {
    const size_t bytes = bytes_of(part);
    if (bytes == 0 || part.device == nullptr) continue;
    char* to = copy.take(bytes);
    part.device->download(Tensor(to, DType::kUInt8, {static_cast<int64_t>(bytes)}),
                          Tensor(const_cast<void*>(part.from), DType::kUInt8, {static_cast<int64_t>(bytes)}));
    part.from = to;
    part.device = nullptr;
  }
  if (written_by_one_machine()) {
    copy.whole = parts_;
    return;
  }
  CopySink sink(copy);
  agree_on_writing(world_, [&] { write_aggregated(world_, machines_, sink, parts_); });
}

void CheckpointSave::finish_copy(CheckpointCopy& copy) {
  fail_point("copying", world_.rank());
  const auto* begin = static_cast<const char*>(copy.memory.data());
  const char* end = begin + copy.used;
  for (TensorPart& part : copy.whole) {
    const size_t bytes = bytes_of(part);
    const auto* from = static_cast<const char*>(part.from);
    if (bytes == 0 || (from >= begin && from < end)) continue;  // copied from a device by begin_copy
    char* to = copy.take(bytes);
    std::memcpy(to, from, bytes);
    part.from = to;
  }
}

void CheckpointSave::write(CheckpointCopy& copy) {
  TensorPart named;
  for (const CheckpointCopy::Piece& piece : copy.pieces) {
    named.name = piece.name;
    writer_->write_bytes(named, piece.place, copy.others.data() + piece.at, piece.bytes);
  }
  writer_->write(copy.whole);
  std::map<std::string, uint64_t> hashes;
  for (const TensorPart& part : copy.whole) hashes[part.name] = part.hash;
  for (TensorPart& part : parts_)
    if (const auto found = hashes.find(part.name); found != hashes.end()) part.hash = found->second;
  fail_point("tensors_written", world_.rank());
  writer_->sync();
}

SaveResult CheckpointSave::commit(int64_t keep, int64_t best, const std::exception_ptr& error) {
  agree_on_writing(world_, [&] {
    if (error) std::rethrow_exception(error);
  });
  writer_.reset();
  fail_point("tensors_synced", world_.rank());
  std::vector<int64_t> hashes;
  for (const TensorPart& part : parts_) hashes.push_back(static_cast<int64_t>(part.hash));
  world_.all_reduce(Tensor::of(hashes, {static_cast<int64_t>(hashes.size())}), Reduction::kSum);
  for (size_t i = 0; i < parts_.size(); ++i)
    manifest_.tensors[parts_[i].name] = {dtypes_[i], parts_[i].rectangle.global_shape,
                                         format_hash(static_cast<uint64_t>(hashes[i]))};
  agree_on_writing(world_, [&] {
    if (world_.rank() != 0) return;
    write_manifest_file(temporary_ + "/manifest.json", manifest_);
    sync_path(temporary_);
    sync_path(fs::path(folder_).parent_path().empty() ? "." : fs::path(folder_).parent_path().string());
    fail_point("manifest_written", 0);
    set_aside(path_);
    rename_or_fail(temporary_, path_);
  });
  SaveResult result{true, path_, "", ""};
  agree(world_, [&] {
    if (world_.rank() != 0) return;
    fail_point("committed", 0);
    try {
      sync_path(folder_);
    } catch (const NoSpace& lack) {
      result.trouble = fmt::format("the checkpoint is complete, but may not outlast a loss of power: {}", lack.what());
    }
    try {
      replace_file(folder_ + "/latest", folder_of_step(manifest_.step) + "\n");
    } catch (const Error& trouble) {
      result.trouble = fmt::format("the checkpoint is complete, but the file that names it is not: {}", trouble.what());
    }
    superseded_ = keep_newest(folder_, keep, best);
  });
  return result;
}

SaveResult CheckpointSave::give_up(const NoSpace& lack) {
  writer_.reset();
  if (world_.rank() == 0) {
    std::error_code ignored;  // what remains is removed by the next save
    fs::remove_all(temporary_, ignored);
  }
  world_.barrier();
  return {false, path_, lack.what(), ""};
}

SaveResult save_checkpoint(Communicator& world, const std::string& folder, Manifest manifest,
                           const std::vector<NamedShard>& shards, int64_t keep, int64_t best) {
  CheckpointSave save(world, folder, std::move(manifest));
  try {
    save.prepare(shards);
    std::exception_ptr error;
    try {
      save.write();
    } catch (...) {
      error = std::current_exception();
    }
    SaveResult result = save.commit(keep, best, error);
    remove_folders(save.superseded());
    return result;
  } catch (const NoSpace& lack) {
    return save.give_up(lack);
  }
}

}  // namespace carillon
