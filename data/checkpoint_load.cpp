// Loading and verifying: every byte of payload is hashed once over the ranks, on the way in.
#include <algorithm>
#include <optional>
#include <set>

#include "data/checkpoint.h"
#include "data/hdf5_file.h"
#include "data/stored_values.h"
#include "data/tensor_hash.h"

namespace carillon {
namespace {

// Rows of at most this many bytes are read at a time where a tensor is only hashed.
constexpr int64_t kBytesAtOnce = int64_t{64} << 20;

// The dataset of a manifest's entry, with the entry's own type and shape. Error 65.
Hdf5File::Dataset expect_dataset(const Hdf5File& file, const std::string& name, const Manifest::TensorEntry& entry) {
  const auto dataset = file.find(name);
  if (!dataset) fail(ExitCode::kBadInput, "tensor {} is missing, {}, use another checkpoint", name, file.path());
  if (name_of(dataset->type) != entry.dtype || dataset->shape != entry.shape)
    fail(ExitCode::kBadInput, "tensor {} is {} [{}], the manifest says {} [{}], {}, use another checkpoint", name,
         name_of(dataset->type), fmt::join(dataset->shape, ", "), entry.dtype, fmt::join(entry.shape, ", "),
         file.path());
  return *dataset;
}

// Reads a rectangle as it is stored; gives its hash.
uint64_t read_stored(const Hdf5File& file, const Hdf5File::Dataset& dataset, const Rectangle& rectangle,
                     std::vector<char>& bytes) {
  bytes.resize(static_cast<size_t>(rectangle.count() * size_of(dataset.type)));
  file.read(dataset.name, rectangle, bytes.data());
  return hash_rectangle(dataset.name, rectangle, bytes.data(), size_of(dataset.type));
}

// The hash of rows [begin, end) of a dataset, a piece at a time.
uint64_t hash_rows(const Hdf5File& file, const Hdf5File::Dataset& dataset, Range rows) {
  std::vector<char> bytes;
  uint64_t sum = 0;
  Rectangle rectangle = Rectangle::whole(dataset.shape);
  const int64_t row =
      dataset.shape[0] == 0 ? 1 : std::max<int64_t>(1, rectangle.count() / dataset.shape[0] * size_of(dataset.type));
  const int64_t at_once = std::max<int64_t>(1, kBytesAtOnce / row);
  for (int64_t begin = rows.begin; begin < rows.end; begin += at_once) {
    rectangle.offset[0] = begin;
    rectangle.extent[0] = std::min(at_once, rows.end - begin);
    sum += read_stored(file, dataset, rectangle, bytes);
  }
  return sum;
}

void compare(const Manifest& manifest, const std::string& path, const std::vector<std::string>& names,
             const std::vector<int64_t>& hashes) {
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string found = hash_text(static_cast<uint64_t>(hashes[i]));
    const std::string& expected = manifest.tensors.at(names[i]).hash;
    if (found != expected)
      fail(ExitCode::kBadInput, "tensor {} has hash {}, the manifest says {}, {}/state.h5, use another checkpoint",
           names[i], found, expected, path);
  }
}

void load_shard(const Hdf5File& file, const Manifest& manifest, NamedShard& shard, uint64_t& hash,
                std::vector<char>& bytes) {
  const auto entry = manifest.tensors.find(shard.name);
  if (entry == manifest.tensors.end())
    fail(ExitCode::kBadInput, "tensor {} is not in the checkpoint, {}, use one of this architecture", shard.name,
         file.path());
  const Hdf5File::Dataset dataset = expect_dataset(file, shard.name, entry->second);
  if (dataset.shape != shard.rectangle.global_shape)
    fail(ExitCode::kUsage, "tensor {} is [{}], this model's is [{}], {}, use the geometry it was trained with",
         shard.name, fmt::join(dataset.shape, ", "), fmt::join(shard.rectangle.global_shape, ", "), file.path());
  hash = read_stored(file, dataset, shard.rectangle, bytes);
  convert_stored(shard.data, bytes.data(), dataset.type);
}

}  // namespace

void load_checkpoint(Communicator& world, const std::string& path, std::vector<NamedShard>& shards) {
  Manifest manifest;
  std::optional<Hdf5File> file;
  agree(world, [&] {
    manifest = read_manifest(path);
    file.emplace(Hdf5File::open(path + "/state.h5"));
  });
  // Shards first, each tensor hashed through the first shard of its name (over the ranks its owned rectangles cover it
  // once); then the tensors nobody asked for, by rows.
  std::vector<std::string> names;
  std::vector<int64_t> hashes;
  agree(world, [&] {
    std::set<std::string> seen;
    std::vector<char> bytes;
    for (NamedShard& shard : shards) {
      uint64_t hash = 0;
      load_shard(*file, manifest, shard, hash, bytes);
      if (!seen.insert(shard.name).second) continue;
      names.push_back(shard.name);
      hashes.push_back(shard.owned ? static_cast<int64_t>(hash) : 0);
    }
    for (const auto& [name, entry] : manifest.tensors) {
      if (seen.contains(name)) continue;
      const Hdf5File::Dataset dataset = expect_dataset(*file, name, entry);
      names.push_back(name);
      hashes.push_back(static_cast<int64_t>(hash_rows(
          *file, dataset, share_of(dataset.shape.empty() ? 0 : dataset.shape[0], world.size(), world.rank()))));
    }
  });
  world.all_reduce(Tensor::of(hashes, {static_cast<int64_t>(hashes.size())}), Reduction::kSum);
  agree(world, [&] { compare(manifest, path, names, hashes); });
}

void verify_checkpoint(const std::string& path) {
  std::vector<NamedShard> none;
  load_checkpoint(*solo_communicator("verify"), path, none);
}

std::string newest_valid_checkpoint(const std::string& folder, const std::function<void(const std::string&)>& notice) {
  const std::vector<CheckpointFolder> present = list_checkpoints(folder);
  if (present.empty())
    fail(ExitCode::kMissingInput, "there is no checkpoint, {}, train first or name another folder", folder);
  for (const CheckpointFolder& candidate : present) {
    try {
      verify_checkpoint(candidate.path);
      return candidate.path;
    } catch (const Error& error) {
      notice(fmt::format("passing over {}: {}", candidate.path, error.what()));
    }
  }
  fail(ExitCode::kBadInput, "none of {} checkpoints is whole, {}, restore one", present.size(), folder);
}

}  // namespace carillon
