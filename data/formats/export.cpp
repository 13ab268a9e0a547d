#include "data/formats/export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>

#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "data/files/temporaries.h"
#include "data/formats/adapted_model.h"
#include "data/formats/hugging_face_folder.h"
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

// Whether a file of this name belongs to a model's folder as we and transformers write it. Left over from a former
// model, it would be read together with the new one.
bool belongs_to_model(const std::string& name, bool in_adapter_folder) {
  static const std::regex shard("model(-[0-9]+-of-[0-9]+)?\\.safetensors(\\.index\\.json)?");
  const auto& others = tokenizer_file_names();
  const bool of_adapter = name == "adapter_config.json" || name == "adapter_model.safetensors" || name == "base_config";
  const bool of_tokenizer = std::any_of(others.begin(), others.end(), [&](const std::string& other) {
    return name == other.substr(0, other.find('/'));  // of a file in a subfolder: the subfolder
  });
  return name == "config.json" || of_tokenizer || (in_adapter_folder && of_adapter) || std::regex_match(name, shard);
}

// A new folder that is removed with its contents unless it is renamed.
struct NewFolder {
  std::string path;
  explicit NewFolder(const std::string& beside) : path(beside + ".tmp-XXXXXX") {
    std::error_code error;
    const fs::path parent = fs::path(beside).parent_path();
    if (!parent.empty()) fs::create_directories(parent, error);
    if (::mkdtemp(path.data()) == nullptr) fail_to_create("cannot be created", errno, beside, "name another folder");
    const mode_t mask = ::umask(0);
    ::umask(mask);
    (void)::chmod(path.c_str(), 0777 & ~mask);
    remember_temporary(path);
  }
  ~NewFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
    forget_temporary(path);
  }
};

void sync_folder(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool good = descriptor >= 0 && ::fsync(descriptor) == 0;
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!good) fail(ExitCode::kInputOutput, "cannot be synced ({}), {}, check the disk", std::strerror(reason), path);
}

void check(const std::error_code& error, const std::string& path) {
  if (error) fail_to_create("cannot be put in place", error.value(), path, "name another output");
}

// Moves the new folder's files into the old folder, replacing those of a former model.
void put_in_place(const std::string& from, const std::string& to) {
  std::error_code error;
  // If nothing or only an empty folder is there, one rename is enough.
  if (!fs::exists(to, error) || fs::is_empty(to, error)) {
    fs::rename(from, to, error);
    if (!error) return;
  }
  // If an adapter's files stayed, they would be read with the new model. Without an adapter_config.json they belong to
  // the user and stay.
  const bool adapter = fs::exists(fs::path(to) / "adapter_config.json", error);
  for (const char* name : {"config.json", "adapter_config.json"}) {
    fs::remove(fs::path(to) / name, error);
    check(error, to);
  }
  std::vector<fs::path> former, fresh;
  for (const auto& entry : fs::directory_iterator(to, error))
    if (belongs_to_model(entry.path().filename().string(), adapter)) former.push_back(entry.path());
  for (const fs::path& path : former) {
    fs::remove_all(path, error);
    check(error, path.string());
  }
  sync_folder(to);
  for (const auto& entry : fs::directory_iterator(from, error)) fresh.push_back(entry.path());
  std::sort(fresh.begin(), fresh.end(), [](const fs::path& a, const fs::path& b) {
    const auto last = [](const fs::path& path) {
      return path.filename() == "config.json" || path.filename() == "adapter_config.json";
    };
    return std::pair(last(a), a) < std::pair(last(b), b);
  });
  for (const fs::path& path : fresh) {
    fs::rename(path, fs::path(to) / path.filename(), error);
    check(error, (fs::path(to) / path.filename()).string());
  }
  sync_folder(to);
}

}  // namespace

namespace {

std::string without_slash(std::string folder) {
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  return folder;
}

SafetensorsItem item_of(const std::string& name, const Hdf5File::Dataset& stored) {
  return {name, dtype_name(stored.type, name), stored.shape,
          Rectangle::whole(stored.shape).count() * size_of(stored.type)};
}

}  // namespace

ExportCounts export_adapter(const ModelSource& source, const std::string& config, const std::string& base_config,
                            const std::string& folder) {
  const std::string target = without_slash(folder);
  const std::map<std::string, std::string> texts = source.tokenizer_files();
  const NewFolder fresh(target);
  ExportCounts counts;
  counts.files = 1;
  std::vector<SafetensorsItem> items;
  for (const std::string& name : source.tensor_names()) {
    if (!is_adapter_tensor(name)) continue;
    items.push_back(item_of(name, source.stored(name)));
    counts.bytes += items.back().bytes;
    counts.tensors += 1;
  }
  write_safetensors(fresh.path + "/adapter_model.safetensors", items,
                    [&](const std::string& name, std::vector<char>& bytes) { source.read_stored(name, bytes); });
  write_tokenizer_files(fresh.path, texts);
  if (!base_config.empty()) {
    std::error_code error;
    fs::create_directory(fresh.path + "/base_config", error);
    check(error, fresh.path);
    write_whole_file(fresh.path + "/base_config/config.json", base_config + "\n");
  }
  write_whole_file(fresh.path + "/adapter_config.json", config + "\n");
  put_in_place(fresh.path, target);
  return counts;
}

ExportCounts export_model(const ModelSource& source, const std::string& config, const std::string& folder,
                          int64_t shard_bytes) {
  const std::string target = without_slash(folder);
  // Read the texts of the source first: it may be in the folder whose files are replaced below.
  const std::map<std::string, std::string> texts = source.tokenizer_files();
  const NewFolder fresh(target);
  ExportCounts counts;
  std::vector<std::vector<SafetensorsItem>> shards(1);
  int64_t in_shard = 0;
  for (const std::string& name : source.tensor_names()) {
    SafetensorsItem item = item_of(name, source.stored(name));
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
    write_safetensors(fresh.path + "/" + name, shards[i], read);
  }
  counts.files = static_cast<int64_t>(shards.size());
  if (shards.size() > 1) write_whole_file(fresh.path + "/model.safetensors.index.json", index.dump(2) + "\n");
  write_tokenizer_files(fresh.path, texts);
  write_whole_file(fresh.path + "/config.json", config + "\n");
  put_in_place(fresh.path, target);
  return counts;
}

}  // namespace carillon
