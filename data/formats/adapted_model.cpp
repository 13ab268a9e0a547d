#include "data/formats/adapted_model.h"

#include <filesystem>

#include "data/checkpoint/finite.h"
#include "data/checkpoint/stored_values.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "data/formats/hugging_face_folder.h"
#include "data/formats/safetensors.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModelGroup = "model/";
constexpr std::string_view kAdapterTensors = "base_model.model.";

class PeftFolder : public ModelSource {
 public:
  explicit PeftFolder(const std::string& path)
      : path_(path), file_((fs::path(path) / "adapter_model.safetensors").string()) {
    const std::string name = (fs::path(path) / "adapter_config.json").string();
    info_.config = read_whole_file(name);
    const Json config = parse_json(info_.config, name);
    if (config.is_object() && config.contains("base_model_name_or_path") &&
        config["base_model_name_or_path"].is_string())
      info_.base = config["base_model_name_or_path"].get<std::string>();
    std::error_code ignored;
    const fs::path own = fs::path(path) / kBaseConfig;
    if (fs::exists(own, ignored)) {
      base_config_ = read_whole_file(own.string());
      check_json_limits(base_config_, own.string());
      notices_.push_back("the rope is that of " + own.string() + ", which the adapter was trained with");
    }
    for (const auto& [tensor, entry] : file_.entries())
      if (!tensor.starts_with(kAdapterTensors))
        fail(ExitCode::kBadInput,
             "tensor {} does not begin with {}, {}, save the adapter with PEFT's save_pretrained: other names are "
             "ignored there",
             tensor, kAdapterTensors, file_.path());
  }
  const std::string& path() const override { return path_; }
  std::string config_json() const override { return base_config_; }
  std::optional<AdapterInfo> adapter() const override { return info_; }
  const std::vector<std::string>& notices() const override { return notices_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, entry] : file_.entries()) names.push_back(name);
    return names;
  }
  void read(std::vector<NamedShard>& shards) const override {
    const std::vector<TensorShape> shapes = shapes_of(shards);
    require(shapes);
    std::vector<char> bytes;
    for (size_t i = 0; i < shards.size(); ++i) {
      const auto tensor = tensor_of(shapes[i].name);
      copy_rectangle(*tensor, shards[i].rectangle, bytes);
      refuse_non_finite(shapes[i].name, shards[i].rectangle, bytes.data(), tensor->type, tensor->path);
      fill_shard(shards[i], bytes.data(), tensor->type);
    }
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    const auto tensor = tensor_of(name);
    return tensor ? std::optional(Hdf5File::Dataset{name, tensor->type, tensor->shape}) : std::nullopt;
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const auto tensor = tensor_of(name);
    const char* from = reinterpret_cast<const char*>(tensor->data);
    const Rectangle whole = Rectangle::whole(tensor->shape);
    bytes.assign(from, from + whole.count() * size_of(tensor->type));
    refuse_non_finite(name, whole, bytes.data(), tensor->type, tensor->path);
  }
  std::map<std::string, std::string> tokenizer_files() const override {
    std::error_code ignored;
    const fs::path folder(path_);
    const bool own = fs::exists(folder / "tokenizer.json", ignored) || fs::exists(folder / "tokenizer.model", ignored);
    return own ? tokenizer_files_at(path_) : std::map<std::string, std::string>{};
  }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    return tokenizer_files().empty() ? nullptr : Tokenizer::open(path_);
  }

 private:
  std::optional<HuggingFaceFolder::StoredTensor> tensor_of(const std::string& name) const {
    const auto found = file_.entries().find(name);
    if (found == file_.entries().end()) return std::nullopt;
    return stored_tensor(file_, name, found->second);
  }

  std::string path_;
  SafetensorsFile file_;
  AdapterInfo info_;
  std::string base_config_;  // empty: the base's own
  std::vector<std::string> notices_;
};

class AdaptedModel : public ModelSource {
 public:
  AdaptedModel(std::unique_ptr<ModelSource> base, std::unique_ptr<ModelSource> adapter)
      : base_(std::move(base)), adapter_(std::move(adapter)), notices_(base_->notices()) {
    if (base_->adapter())
      fail(ExitCode::kBadInput,
           "the base {} is an adapter itself, {}, merge that one first (carillon export … format=hf)", base_->path(),
           adapter_->path());
    const auto& more = adapter_->notices();
    notices_.insert(notices_.end(), more.begin(), more.end());
  }
  const std::string& path() const override { return adapter_->path(); }
  // The adapter's own config, if it has one, because it includes the rope that the adapter was trained with.
  std::string config_json() const override {
    const std::string own = adapter_->config_json();
    return own.empty() ? base_->config_json() : own;
  }
  std::optional<AdapterInfo> adapter() const override { return adapter_->adapter(); }
  const ModelSource* base() const override { return base_.get(); }
  const std::vector<std::string>& notices() const override { return notices_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names = base_->tensor_names();
    for (std::string& name : adapter_->tensor_names()) names.push_back(std::move(name));
    return names;
  }
  void read(std::vector<NamedShard>& shards) const override {
    std::vector<NamedShard> of_base, of_adapter;
    for (const NamedShard& shard : shards)
      (is_adapter_tensor(shard.name.substr(kModelGroup.size())) ? of_adapter : of_base).push_back(shard);
    base_->read(of_base);
    adapter_->read(of_adapter);
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override { return holder(name).find(name); }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    holder(name).read_stored(name, bytes);
  }
  std::map<std::string, std::string> tokenizer_files() const override {
    auto files = adapter_->tokenizer_files();
    return files.empty() ? base_->tokenizer_files() : files;
  }
  std::unique_ptr<Tokenizer> tokenizer() const override {
    auto tokenizer = adapter_->tokenizer();
    return tokenizer ? std::move(tokenizer) : base_->tokenizer();
  }

 private:
  const ModelSource& holder(const std::string& name) const { return is_adapter_tensor(name) ? *adapter_ : *base_; }

  std::unique_ptr<ModelSource> base_, adapter_;
  std::vector<std::string> notices_;
};

}  // namespace

bool is_adapter_tensor(const std::string& name) { return name.starts_with(kAdapterTensors); }

std::unique_ptr<ModelSource> open_peft_folder(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(fs::path(path) / "adapter_model.safetensors", ignored))
    fail(ExitCode::kMissingInput,
         "there is no adapter_model.safetensors beside adapter_config.json, {}, save the adapter as "
         "safetensors",
         path);
  return std::make_unique<PeftFolder>(path);
}

std::unique_ptr<ModelSource> adapt(std::unique_ptr<ModelSource> base, std::unique_ptr<ModelSource> adapter) {
  return std::make_unique<AdaptedModel>(std::move(base), std::move(adapter));
}

std::string content_hash(Communicator& world, const ModelSource& source) {
  uint64_t own = 0;
  agree(world, [&] {
    std::vector<char> bytes;
    int64_t number = 0;
    for (const std::string& name : source.tensor_names()) {
      if (number++ % world.size() != world.rank()) continue;
      const Hdf5File::Dataset stored = source.stored(name);
      source.read_stored(name, bytes);
      const std::string shaped = fmt::format("{} [{}] {}", name, fmt::join(stored.shape, ", "), name_of(stored.type));
      own += hash_rectangle(shaped, Rectangle::whole(stored.shape), bytes.data(), size_of(stored.type));
    }
  });
  // A sum modulo 2^64, computed in halves that do not overflow.
  int64_t halves[] = {static_cast<int64_t>(own & UINT32_MAX), static_cast<int64_t>(own >> 32)};
  world.all_reduce(Tensor(halves, DType::kInt64, {2}), Reduction::kSum);
  return format_hash(static_cast<uint64_t>(halves[0]) + (static_cast<uint64_t>(halves[1]) << 32));
}

}  // namespace carillon
