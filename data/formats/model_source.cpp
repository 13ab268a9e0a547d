#include "data/formats/model_source.h"

#include <cstdlib>
#include <filesystem>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/finite.h"
#include "data/checkpoint/stored_values.h"
#include "data/files/output_file.h"
#include "data/formats/adapted_model.h"
#include "data/formats/hugging_face_folder.h"
#include "data/formats/import.h"
#include "data/formats/tied_head.h"
#include "runtime/check.h"
#include "runtime/json_fields.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModelGroup = "model/";

std::string without_group(const std::string& name) {
  return name.starts_with(kModelGroup) ? name.substr(kModelGroup.size()) : name;
}

bool has_tokenizer(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "tokenizer.json", ignored) || fs::exists(folder / "tokenizer.model", ignored);
}

std::unique_ptr<ModelSource> open(const std::string& path, const std::vector<std::string>& opened_for);

// The group `model` of an HDF5 file.
class Hdf5Model : public ModelSource {
 public:
  Hdf5Model(const std::string& file, std::string named) : file_(Hdf5File::open(file)), named_(std::move(named)) {
    for (const Hdf5File::Dataset& dataset : file_.datasets())
      if (dataset.name.starts_with(kModelGroup)) datasets_.emplace(dataset.name, dataset);
    if (datasets_.empty()) fail(ExitCode::kBadInput, "there is no group `model`, {}, name a model file", named_);
  }
  const std::string& path() const override { return named_; }
  const std::vector<std::string>& notices() const override { return notices_; }
  std::string config_json() const override { return config_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, dataset] : datasets_) names.push_back(without_group(name));
    return names;
  }
  void read(std::vector<NamedShard>& shards) const override {
    require(shapes_of(shards));
    std::vector<char> bytes;
    for (const NamedShard& shard : shards) {
      const Hdf5File::Dataset& dataset = datasets_.at(shard.name);
      bytes.resize(static_cast<size_t>(shard.rectangle.count() * size_of(dataset.type)));
      file_.read(shard.name, shard.rectangle, bytes.data());
      refuse_non_finite(without_group(shard.name), shard.rectangle, bytes.data(), dataset.type, named_);
      fill_shard(shard, bytes.data(), dataset.type);
    }
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    const auto found = datasets_.find(std::string(kModelGroup) + name);
    return found == datasets_.end() ? std::nullopt : std::optional(found->second);
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const Hdf5File::Dataset dataset = stored(name);
    const Rectangle whole = Rectangle::whole(dataset.shape);
    bytes.resize(static_cast<size_t>(whole.count() * size_of(dataset.type)));
    file_.read(dataset.name, whole, bytes.data());
    refuse_non_finite(name, whole, bytes.data(), dataset.type, named_);
  }

 protected:
  void set_config(const std::string& config) {
    const auto head = find("lm_head.weight"), embedding = find("model.embed_tokens.weight");
    const auto equal = [&] {
      std::vector<char> a, b;
      read_stored("lm_head.weight", a);
      read_stored("model.embed_tokens.weight", b);
      return equal_values({head->type, head->shape, a.data()}, {embedding->type, embedding->shape, b.data()});
    };
    config_ = head && embedding ? config_of_stored_head(config, equal, named_, notices_) : config;
  }

  Hdf5File file_;
  std::string named_;
  std::string config_;
  std::vector<std::string> notices_;
  std::map<std::string, Hdf5File::Dataset> datasets_;
};

class ModelFile : public Hdf5Model {
 public:
  explicit ModelFile(const std::string& path) : Hdf5Model(path, path) {
    const auto config = file_.attribute("config");
    if (!config) fail(ExitCode::kBadInput, "the attribute `config` is missing, {}, import the model again", path);
    check_json_limits(*config, path + " (config)");
    set_config(*config);
  }
  std::unique_ptr<Tokenizer> tokenizer() const override { return tokenizer_of_files(tokenizer_files(), named_); }
  std::map<std::string, std::string> tokenizer_files() const override {
    std::map<std::string, std::string> files;
    for (const std::string& name : tokenizer_file_names())
      if (const auto text = file_.attribute(attribute_of_file(name))) files[name] = *text;
    return files;
  }
};

// The canonical path, to detect a run that refers back to itself.
std::string canonical_path(const std::string& path) {
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  return error ? path : canonical.string();
}

class CheckpointModel : public Hdf5Model {
 public:
  CheckpointModel(const std::string& path, std::vector<std::string> opened_for)
      : Hdf5Model((fs::path(path) / "state.h5").string(), path),
        manifest_(read_manifest(path)),
        ancestors_(std::move(opened_for)) {
    ancestors_.push_back(canonical_path(path));
    if (!manifest_.config.contains("model"))
      fail(ExitCode::kBadInput, "the manifest has no model configuration, {}, use another checkpoint", path);
    set_config(manifest_.config["model"].dump(2));
    if (!manifest_.config.contains("adapter")) return;
    const Json adapter = manifest_.config["adapter"];
    const JsonFields fields(adapter, {path, "use another checkpoint"}, "config.adapter.");
    adapter_ = AdapterInfo{fields.at("config").dump(2), fields.text_or("base", ""), fields.text_or("base_hash", "")};
  }
  std::optional<AdapterInfo> adapter() const override { return adapter_; }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    if (const std::string place = tokenizer_place(); !place.empty()) return Tokenizer::open(place);
    const auto base = base_model();
    return base ? base->tokenizer() : nullptr;
  }
  std::map<std::string, std::string> tokenizer_files() const override {
    const std::string place = tokenizer_place();
    if (place.empty()) {
      const auto base = base_model();
      return base ? base->tokenizer_files() : std::map<std::string, std::string>{};
    }
    return tokenizer_files_at(place);
  }

 private:
  Json run() const { return manifest_.config.value("run", Json::object()); }
  // The run's own copy, else the one that its configuration names; empty if there is neither.
  std::string tokenizer_place() const {
    std::error_code ignored;
    const fs::path run_folder = fs::path(canonical_path(named_)).parent_path().parent_path();
    if (const fs::path own = run_folder / "tokenizer"; has_tokenizer(own)) return own.string();
    const Json data = run().value("data", Json::object());
    if (!data.is_object() || !data.contains("tokenizer") || !data["tokenizer"].is_string()) return "";
    return data["tokenizer"].get<std::string>();
  }
  // The model that the run was fine-tuned from, if it still exists.
  std::unique_ptr<ModelSource> base_model() const {
    const Json model = run().value("model", Json::object());
    if (!model.is_object() || !model.contains("base") || !model["base"].is_string()) return nullptr;
    const std::string base = model["base"].get<std::string>();
    std::error_code ignored;
    if (!fs::exists(base, ignored)) return nullptr;
    // The folder of a run without checkpoints, such as one that begins now, is not a model yet.
    const fs::path folder(base);
    const auto has = [&](const char* name) { return fs::exists(folder / name, ignored); };
    if (fs::is_directory(folder, ignored) && !has("manifest.json") && !has("config.json") && !has("checkpoints"))
      return nullptr;
    const std::string resolved = resolve_model_path(base, [](const std::string&) {});
    const std::string canonical = canonical_path(resolved);
    // A run that names its own folder would find another of its checkpoints there, so the folders are compared.
    for (const std::string& before : ancestors_)
      if (before == canonical || fs::path(before).parent_path() == fs::path(canonical).parent_path())
        fail(ExitCode::kBadInput,
             "the run's base model {} comes back to the run itself, so that it has no tokenizer of its own, {}, add "
             "tokenizer=PATH or put one into the run's folder as tokenizer/",
             base, named_);
    return carillon::open(resolved, ancestors_);
  }

  Manifest manifest_;
  std::optional<AdapterInfo> adapter_;
  std::vector<std::string> ancestors_;  // this source and those whose base it is, directly or indirectly
};

class HuggingFaceModel : public ModelSource {
 public:
  explicit HuggingFaceModel(const std::string& path) : folder_(path) {}
  const std::string& path() const override { return folder_.path(); }
  const std::vector<std::string>& notices() const override { return folder_.notices(); }
  std::string config_json() const override { return folder_.config_json(); }
  std::vector<std::string> tensor_names() const override { return folder_.tensor_names(); }
  void read(std::vector<NamedShard>& shards) const override {
    require(shapes_of(shards));
    std::vector<char> bytes;
    for (const NamedShard& shard : shards) {
      const std::string name = without_group(shard.name);
      const auto tensor = folder_.find(name);
      copy_rectangle(*tensor, shard.rectangle, bytes);
      refuse_non_finite(name, shard.rectangle, bytes.data(), tensor->type, tensor->path);
      fill_shard(shard, bytes.data(), tensor->type);
    }
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    const auto tensor = folder_.find(name);
    return tensor ? std::optional(Hdf5File::Dataset{name, tensor->type, tensor->shape}) : std::nullopt;
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const auto tensor = folder_.find(name);
    const char* from = reinterpret_cast<const char*>(tensor->data);
    const Rectangle whole = Rectangle::whole(tensor->shape);
    bytes.assign(from, from + whole.count() * size_of(tensor->type));
    refuse_non_finite(name, whole, bytes.data(), tensor->type, tensor->path);
  }
  std::map<std::string, std::string> tokenizer_files() const override { return tokenizer_files_at(path()); }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    return has_tokenizer(path()) ? Tokenizer::open(path()) : nullptr;
  }

 private:
  HuggingFaceFolder folder_;
};

}  // namespace

Hdf5File::Dataset ModelSource::stored(const std::string& name) const {
  const auto found = find(name);
  CHECK(found.has_value(), "a tensor that tensor_names() does not have", name);
  return *found;
}

void require_tensors(const std::vector<TensorShape>& tensors,
                     const std::function<std::optional<std::vector<int64_t>>(const std::string& name)>& find,
                     const std::string& path) {
  std::vector<std::string> missing;
  for (const TensorShape& tensor : tensors)
    if (!find(tensor.name)) missing.push_back(tensor.name);
  if (!missing.empty()) {
    std::string list;  // printed below the line of the error
    for (const std::string& name : missing) list += "\n  " + name;
    fail(ExitCode::kBadInput, "{} tensor{} missing, among them {}, {}, use the model its config.json describes{}",
         missing.size(), missing.size() == 1 ? " is" : "s are", missing.front(), path, missing.size() > 1 ? list : "");
  }
  for (const TensorShape& tensor : tensors) {
    const auto found = find(tensor.name);
    if (*found == tensor.shape) continue;
    fail(ExitCode::kBadInput, "tensor {} is [{}], its config.json says [{}], {}, fix either", tensor.name,
         fmt::join(*found, ", "), fmt::join(tensor.shape, ", "), path);
  }
}

void ModelSource::require(const std::vector<TensorShape>& tensors) const {
  require_tensors(
      tensors,
      [&](const std::string& name) {
        const auto found = find(name);
        return found ? std::optional(found->shape) : std::nullopt;
      },
      path());
}

std::unique_ptr<Tokenizer> tokenizer_of_files(const std::map<std::string, std::string>& files,
                                              const std::string& where) {
  if (!files.contains("tokenizer.json") && !files.contains("tokenizer.model")) return nullptr;
  struct Folder {
    fs::path path;
    ~Folder() {
      std::error_code ignored;
      if (!path.empty()) fs::remove_all(path, ignored);
    }
  } folder;
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "carillon-tokenizer-XXXXXX").string();
  if (error || ::mkdtemp(name.data()) == nullptr)
    fail(ExitCode::kCannotCreate,
         "no temporary folder can be made for the tokenizer, {}, set TMPDIR to a folder with "
         "space",
         where);
  folder.path = name;
  write_tokenizer_files(name, files);
  try {
    auto tokenizer = Tokenizer::open(name);
    tokenizer->set_files(files);
    return tokenizer;
  } catch (const Error& problem) {
    // The temporary folder means nothing to the user: name the model file instead.
    std::string text = problem.what();
    for (size_t at = text.find(name); at != std::string::npos; at = text.find(name))
      text.replace(at, name.size(), where);
    throw Error(problem.code(), text);
  }
}

namespace {

std::unique_ptr<ModelSource> open(const std::string& path, const std::vector<std::string>& opened_for) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ExitCode::kMissingInput, "there is no model, {}, correct the path", path);
  if (!fs::is_directory(path, ignored)) {
    refuse_foreign_model_file(path);
    return std::make_unique<ModelFile>(path);
  }
  if (fs::exists(fs::path(path) / "manifest.json", ignored)) return std::make_unique<CheckpointModel>(path, opened_for);
  if (fs::exists(fs::path(path) / "adapter_config.json", ignored)) return open_peft_folder(path);
  if (fs::exists(fs::path(path) / "config.json", ignored)) return std::make_unique<HuggingFaceModel>(path);
  fail(ExitCode::kBadInput,
       "is not a model: neither a model file nor a folder with manifest.json, checkpoints, config.json or "
       "adapter_config.json, {}, correct the path",
       path);
}

}  // namespace

std::vector<TensorShape> shapes_of(const std::vector<NamedShard>& shards) {
  std::vector<TensorShape> shapes;
  for (const NamedShard& shard : shards) shapes.push_back({without_group(shard.name), shard.rectangle.global_shape});
  return shapes;
}

std::unique_ptr<ModelSource> ModelSource::open(const std::string& path) {
  auto source = carillon::open(path, {});
  const auto adapter = source->adapter();
  if (!adapter) return source;
  std::error_code ignored;
  if (adapter->base.empty() || !fs::exists(adapter->base, ignored))
    fail(ExitCode::kMissingInput,
         "the base model of this adapter is not there ({}), {}, name it: model=BASE adapter={}",
         adapter->base.empty() ? "it names none" : adapter->base, path, path);
  return adapt(carillon::open(adapter->base, {}), std::move(source));
}

std::unique_ptr<ModelSource> ModelSource::open_adapter(const std::string& path) {
  auto source = carillon::open(path, {});
  if (!source->adapter())
    fail(ExitCode::kUsage, "is not an adapter, {}, name a PEFT folder or a run that trained one", path);
  return source;
}

std::string resolve_model_path(const std::string& path, const std::function<void(const std::string&)>& notice) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ExitCode::kMissingInput, "there is no model, {}, correct the path", path);
  const fs::path folder(path);
  if (!fs::is_directory(folder, ignored)) return path;
  if (step_of_folder(path) >= 0 || fs::exists(folder / "manifest.json", ignored)) {
    verify_checkpoint(path);
    return path;
  }
  if (fs::is_directory(folder / "checkpoints", ignored))
    return newest_valid_checkpoint((folder / "checkpoints").string(), notice);
  return path;
}

}  // namespace carillon
