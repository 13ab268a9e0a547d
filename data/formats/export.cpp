#include "data/formats/export.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/files/output_file.h"
#include "data/formats/safetensors.h"
#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

std::string dtype_name(StoredType type, const std::string& tensor) {
  switch (type) {
    case StoredType::kFloat64:
      return "F64";
    case StoredType::kFloat32:
      return "F32";
    case StoredType::kFloat16:
      return "F16";
    case StoredType::kBFloat16:
      return "BF16";
    default:
      fail(ExitCode::kBadInput, "tensor {} is {}, no weight, export, name a model file", tensor, name_of(type));
  }
}

void write_text(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace

ExportCounts export_model(const ModelSource& source, const std::string& config, const std::string& folder,
                          int64_t shard_bytes) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, name another folder", error.message(), folder);
  ExportCounts counts;
  std::vector<std::vector<SafetensorsItem>> shards(1);
  int64_t in_shard = 0;
  for (const std::string& name : source.tensor_names()) {
    const Hdf5File::Dataset stored = source.stored(name);
    SafetensorsItem item{name, dtype_name(stored.type, name), stored.shape,
                         Rectangle::whole(stored.shape).count() * size_of(stored.type)};
    if (in_shard > 0 && in_shard + item.bytes > shard_bytes) {
      shards.emplace_back();
      in_shard = 0;
    }
    in_shard += item.bytes;
    counts.bytes += item.bytes;
    counts.tensors += 1;
    shards.back().push_back(std::move(item));
  }
  const auto read = [&](const std::string& name, std::vector<char>& bytes) { source.read_stored(name, bytes); };
  nlohmann::ordered_json index = {{"metadata", {{"total_size", counts.bytes}}},
                                  {"weight_map", nlohmann::ordered_json::object()}};
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const SafetensorsItem& item : shards[i]) index["weight_map"][item.name] = name;
    write_safetensors(folder + "/" + name, shards[i], read);
  }
  counts.files = static_cast<int64_t>(shards.size());
  if (shards.size() > 1) write_text(folder + "/model.safetensors.index.json", index.dump(2) + "\n");
  for (const auto& [name, text] : source.tokenizer_files()) write_text(folder + "/" + name, text);
  write_text(folder + "/config.json", config + "\n");
  return counts;
}

}  // namespace carillon
