// Loading and verifying: all tensor data is read and hashed once, divided over the ranks.
#include <algorithm>
#include <optional>
#include <set>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/manifest_file.h"
#include "data/checkpoint/stored_values.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/checkpoint/tensor_io.h"
#include "data/files/hdf5_file.h"

namespace carillon {
namespace {

// Tensors that are only hashed are read this many bytes of rows at a time.
constexpr int64_t kBytesAtOnce = int64_t{64} << 20;

// Returns the dataset of a manifest entry after checking its type and shape. Error 65.
Hdf5File::Dataset expect_dataset(const Hdf5File& file, const std::string& name, const Manifest::TensorEntry& entry) {
  const auto dataset = file.find(name);
  if (!dataset) fail(ExitCode::kBadInput, "tensor {} is missing, {}, use another checkpoint", name, file.path());
  if (name_of(dataset->type) != entry.dtype || dataset->shape != entry.shape)
    fail(ExitCode::kBadInput, "tensor {} is {} [{}], the manifest says {} [{}], {}, use another checkpoint", name,
         name_of(dataset->type), fmt::join(dataset->shape, ", "), entry.dtype, fmt::join(entry.shape, ", "),
         file.path());
  return *dataset;
}

// Reads a rectangle whose elements are not stored contiguously in the file: through HDF5, a few rows at a time.
void read_through_library(const Hdf5File& file, TensorPart& part) {
  std::vector<char> bytes;
  Rectangle rectangle = part.rectangle;
  const int64_t rows = rectangle.extent[0], width = size_of(part.type);
  const int64_t row = rows == 0 ? 1 : std::max<int64_t>(1, rectangle.count() / rows);
  const int64_t at_once = std::max<int64_t>(1, kBytesAtOnce / (row * width));
  for (int64_t begin = 0; begin < rows; begin += at_once) {
    rectangle.offset[0] = part.rectangle.offset[0] + begin;
    rectangle.extent[0] = std::min(at_once, rows - begin);
    bytes.resize(static_cast<size_t>(rectangle.count() * width));
    file.read(part.name, rectangle, bytes.data());
    part.hash += hash_rectangle(part.name, rectangle, bytes.data(), width);
    if (!part.to) continue;
    const Tensor target = part.to.reshape({rows, row}).rows(begin, begin + rectangle.extent[0]);
    fill_shard({part.name, rectangle, target, true, part.device}, bytes.data(), part.type);
  }
}

void compare(const Manifest& manifest, const std::string& path, const std::vector<std::string>& names,
             const std::vector<int64_t>& hashes) {
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string found = format_hash(static_cast<uint64_t>(hashes[i]));
    const std::string& expected = manifest.tensors.at(names[i]).hash;
    if (found != expected)
      fail(ExitCode::kBadInput, "tensor {} has hash {}, the manifest says {}, {}/state.h5, use another checkpoint",
           names[i], found, expected, path);
  }
}

TensorPart part_of(const Hdf5File& file, const Manifest& manifest, const NamedShard& shard) {
  const auto entry = manifest.tensors.find(shard.name);
  if (entry == manifest.tensors.end())
    fail(ExitCode::kBadInput, "tensor {} is not in the checkpoint, {}, use one of this architecture", shard.name,
         file.path());
  const Hdf5File::Dataset dataset = expect_dataset(file, shard.name, entry->second);
  if (dataset.shape != shard.rectangle.global_shape)
    fail(ExitCode::kUsage, "tensor {} is [{}], this model's is [{}], {}, use the geometry it was trained with",
         shard.name, fmt::join(dataset.shape, ", "), fmt::join(shard.rectangle.global_shape, ", "), file.path());
  TensorPart part{shard.name, dataset.type, 0, shard.rectangle};
  part.to = shard.data;
  part.device = shard.device;
  return part;
}

// This rank's rows of a tensor that is in no shard and only has to be hashed.
TensorPart rows_to_hash(const Hdf5File::Dataset& dataset, Communicator& world) {
  TensorPart part{dataset.name, dataset.type, 0, Rectangle::whole(dataset.shape)};
  const Range rows = share_of(dataset.shape.empty() ? 0 : dataset.shape[0], world.size(), world.rank());
  if (dataset.shape.empty()) part.rectangle = Rectangle::whole({0});
  part.rectangle.offset[0] = rows.begin;
  part.rectangle.extent[0] = rows.size();
  return part;
}

void read_all(const Hdf5File& file, std::vector<TensorPart>& parts) {
  std::vector<TensorPart> straight;
  std::vector<size_t> numbers;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (const auto place = file.place_of(parts[i].name)) {
      parts[i].place = *place;
      straight.push_back(parts[i]);
      numbers.push_back(i);
    } else if (!parts[i].rectangle.empty()) {
      read_through_library(file, parts[i]);
    }
  }
  read_parts(file.path(), straight);
  for (size_t i = 0; i < straight.size(); ++i) parts[numbers[i]].hash = straight[i].hash;
}

}  // namespace

void load_checkpoint(Communicator& world, const std::string& path, std::vector<NamedShard>& shards) {
  Manifest manifest;
  std::optional<Hdf5File> file;
  agree(world, [&] {
    manifest = read_manifest(path);
    as_part_of_checkpoint([&] { file.emplace(Hdf5File::open(path + "/state.h5", Links::kRefuse)); });
  });
  // Shards first. Each tensor is hashed through the first shard of its name; the owned rectangles of all ranks cover it
  // once. Tensors that are in no shard follow, split by rows.
  std::vector<std::string> names;
  std::vector<int64_t> hashes;
  agree(world, [&] {
    std::vector<TensorPart> parts;
    std::vector<bool> counts;  // whether the part's hash is added up
    std::set<std::string> seen;
    for (const NamedShard& shard : shards) {
      parts.push_back(part_of(*file, manifest, shard));
      counts.push_back(seen.insert(shard.name).second && shard.owned);
      parts.back().hashed = counts.back();
    }
    for (const auto& [name, entry] : manifest.tensors) {
      if (!seen.insert(name).second) continue;
      parts.push_back(rows_to_hash(expect_dataset(*file, name, entry), world));
      counts.push_back(true);
    }
    read_all(*file, parts);
    std::map<std::string, int64_t> sums;
    for (const TensorPart& part : parts) {
      const auto [place, is_new] = sums.emplace(part.name, 0);
      if (is_new) names.push_back(part.name);
    }
    for (size_t i = 0; i < parts.size(); ++i)
      if (counts[i]) sums[parts[i].name] = static_cast<int64_t>(parts[i].hash);
    for (const std::string& name : names) hashes.push_back(sums.at(name));
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
      (void)read_manifest_if_complete(candidate.path);
      verify_checkpoint(candidate.path);
      return candidate.path;
    } catch (const Error& error) {
      if (error.code() != ExitCode::kBadInput) throw;
      notice(fmt::format("passing over {}: {}", candidate.path, error.what()));
    }
  }
  fail(ExitCode::kBadInput, "none of {} checkpoints is whole, {}, restore one", present.size(), folder);
}

}  // namespace carillon
