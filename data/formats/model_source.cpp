#include "data/formats/model_source.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/stored_values.h"
#include "data/files/hdf5_file.h"
#include "data/formats/hugging_face_folder.h"
#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json",    "tokenizer_config.json", "tokenizer.model",        "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja",   "generation_config.json", "vocab.json",
    "merges.txt"};

constexpr std::string_view kModelGroup = "model/";

std::string without_group(const std::string& name) {
  return name.starts_with(kModelGroup) ? name.substr(kModelGroup.size()) : name;
}

void refuse_missing(const std::vector<std::string>& missing, const std::string& path) {
  if (missing.empty()) return;
  fail(ExitCode::kBadInput, "{} tensors are missing, among them {}, {}, use the model its config.json describes",
       missing.size(), missing.front(), path);
}

void refuse_shape(const std::string& name, const std::vector<int64_t>& found, const std::vector<int64_t>& wanted,
                  const std::string& path) {
  if (found == wanted) return;
  fail(ExitCode::kBadInput, "tensor {} is [{}], its config.json says [{}], {}, mend either", name,
       fmt::join(found, ", "), fmt::join(wanted, ", "), path);
}

// The group `model` of an HDF5 file.
class Hdf5Model : public ModelSource {
 public:
  Hdf5Model(std::string file, std::string named) : file_(Hdf5File::open(file)), named_(std::move(named)) {
    for (const Hdf5File::Dataset& dataset : file_.datasets())
      if (dataset.name.starts_with(kModelGroup)) datasets_.emplace(dataset.name, dataset);
    if (datasets_.empty()) fail(ExitCode::kBadInput, "there is no group `model`, {}, name a model file", named_);
  }
  const std::string& path() const override { return named_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, dataset] : datasets_) names.push_back(without_group(name));
    return names;
  }
  void read(std::vector<NamedShard>& shards) const override {
    std::vector<std::string> missing;
    for (const NamedShard& shard : shards)
      if (!datasets_.contains(shard.name)) missing.push_back(without_group(shard.name));
    refuse_missing(missing, named_);
    std::vector<char> bytes;
    for (const NamedShard& shard : shards) {
      const Hdf5File::Dataset& dataset = datasets_.at(shard.name);
      refuse_shape(without_group(shard.name), dataset.shape, shard.rectangle.global_shape, named_);
      bytes.resize(static_cast<size_t>(shard.rectangle.count() * size_of(dataset.type)));
      file_.read(shard.name, shard.rectangle, bytes.data());
      fill_shard(shard, bytes.data(), dataset.type);
    }
  }

  Hdf5File::Dataset stored(const std::string& name) const override {
    return datasets_.at(std::string(kModelGroup) + name);
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const Hdf5File::Dataset dataset = stored(name);
    const Rectangle whole = Rectangle::whole(dataset.shape);
    bytes.resize(static_cast<size_t>(whole.count() * size_of(dataset.type)));
    file_.read(dataset.name, whole, bytes.data());
  }

 protected:
  Hdf5File file_;
  std::string named_;
  std::map<std::string, Hdf5File::Dataset> datasets_;
};

class ModelFile : public Hdf5Model {
 public:
  explicit ModelFile(const std::string& path) : Hdf5Model(path, path) {
    const auto config = file_.attribute("config");
    if (!config) fail(ExitCode::kBadInput, "the attribute `config` is missing, {}, import the model again", path);
    config_ = *config;
  }
  std::string config_json() const override { return config_; }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    const auto text = file_.attribute("tokenizer_json");
    if (!text) return nullptr;
    return Tokenizer::from_json(named_, *text, file_.attribute("tokenizer_config_json").value_or(""));
  }
  std::map<std::string, std::string> tokenizer_files() const override {
    std::map<std::string, std::string> files;
    if (const auto text = file_.attribute("tokenizer_json")) files["tokenizer.json"] = *text;
    if (const auto text = file_.attribute("tokenizer_config_json")) files["tokenizer_config.json"] = *text;
    return files;
  }

 private:
  std::string config_;
};

class CheckpointModel : public Hdf5Model {
 public:
  explicit CheckpointModel(const std::string& path)
      : Hdf5Model((fs::path(path) / "state.h5").string(), path), manifest_(read_manifest(path)) {
    if (!manifest_.config.contains("model"))
      fail(ExitCode::kBadInput, "the manifest has no model configuration, {}, use another checkpoint", path);
  }
  std::string config_json() const override { return manifest_.config["model"].dump(2); }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    const Json data = run().value("data", Json::object());
    if (data.contains("tokenizer") && data["tokenizer"].is_string())
      return Tokenizer::open(data["tokenizer"].get<std::string>());
    const auto base = base_model();
    return base ? base->tokenizer() : nullptr;
  }
  std::map<std::string, std::string> tokenizer_files() const override {
    const auto base = base_model();
    return base ? base->tokenizer_files() : std::map<std::string, std::string>{};
  }

 private:
  Json run() const { return manifest_.config.value("run", Json::object()); }
  // What the run was fine-tuned from, where it is still there.
  std::unique_ptr<ModelSource> base_model() const {
    const Json model = run().value("model", Json::object());
    if (!model.contains("base") || !model["base"].is_string()) return nullptr;
    const std::string base = model["base"].get<std::string>();
    return fs::exists(base) ? ModelSource::open(resolve_model_path(base, [](const std::string&) {})) : nullptr;
  }

  Manifest manifest_;
};

class HuggingFaceModel : public ModelSource {
 public:
  explicit HuggingFaceModel(const std::string& path) : folder_(path) {}
  const std::string& path() const override { return folder_.path(); }
  std::string config_json() const override { return folder_.config_json(); }
  std::vector<std::string> tensor_names() const override { return folder_.tensor_names(); }
  void read(std::vector<NamedShard>& shards) const override {
    std::vector<std::string> missing;
    for (const NamedShard& shard : shards)
      if (!folder_.find(without_group(shard.name))) missing.push_back(without_group(shard.name));
    refuse_missing(missing, path());
    std::vector<char> bytes;
    for (const NamedShard& shard : shards) {
      const auto tensor = folder_.find(without_group(shard.name));
      refuse_shape(without_group(shard.name), tensor->shape, shard.rectangle.global_shape, tensor->path);
      copy_rectangle(*tensor, shard.rectangle, bytes);
      fill_shard(shard, bytes.data(), tensor->type);
    }
  }
  Hdf5File::Dataset stored(const std::string& name) const override {
    const auto tensor = folder_.find(name);
    return {name, tensor->type, tensor->shape};
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const auto tensor = folder_.find(name);
    const char* from = reinterpret_cast<const char*>(tensor->data);
    bytes.assign(from, from + Rectangle::whole(tensor->shape).count() * size_of(tensor->type));
  }
  std::map<std::string, std::string> tokenizer_files() const override {
    std::map<std::string, std::string> files;
    for (const char* name : kTokenizerFiles)
      if (fs::exists(fs::path(path()) / name)) files[name] = read_text_file((fs::path(path()) / name).string());
    return files;
  }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    const fs::path folder(path());
    const bool has = fs::exists(folder / "tokenizer.json") || fs::exists(folder / "tokenizer.model");
    return has ? Tokenizer::open(path()) : nullptr;
  }

 private:
  HuggingFaceFolder folder_;
};

}  // namespace

std::unique_ptr<ModelSource> ModelSource::open(const std::string& path) {
  if (!fs::exists(path)) fail(ExitCode::kMissingInput, "there is no model, {}, correct the path", path);
  if (fs::is_regular_file(path)) return std::make_unique<ModelFile>(path);
  if (fs::exists(fs::path(path) / "manifest.json")) return std::make_unique<CheckpointModel>(path);
  if (fs::exists(fs::path(path) / "config.json")) return std::make_unique<HuggingFaceModel>(path);
  fail(ExitCode::kBadInput,
       "is no model: neither a model file nor a folder with manifest.json, checkpoints or config.json, {}, correct the "
       "path",
       path);
}

std::string resolve_model_path(const std::string& path, const std::function<void(const std::string&)>& notice) {
  if (!fs::exists(path)) fail(ExitCode::kMissingInput, "there is no model, {}, correct the path", path);
  const fs::path folder(path);
  if (fs::is_regular_file(folder)) return path;
  if (step_of_folder(path) >= 0 || fs::exists(folder / "manifest.json")) {
    verify_checkpoint(path);
    return path;
  }
  if (fs::is_directory(folder / "checkpoints"))
    return newest_valid_checkpoint((folder / "checkpoints").string(), notice);
  return path;
}

}  // namespace carillon
