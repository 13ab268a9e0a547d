#include "data/formats/inspect.h"

#include <filesystem>

#include "data/checkpoint/checkpoint.h"
#include "data/checkpoint/tensor_hash.h"
#include "data/corpus/token_file.h"
#include "data/files/hdf5_file.h"
#include "data/formats/hugging_face_folder.h"
#include "data/formats/model_source.h"
#include "runtime/error.h"
#include "runtime/foreign_error.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Python writes numbers that are not valid JSON; a configuration with such numbers is shown as text.
Json config_of(const std::string& text, const std::string& path) {
  if (const auto json = try_parse_json(text)) return *json;
  if (text.find("Infinity") != std::string::npos || text.find("NaN") != std::string::npos) return text;
  return parse_json(text, path + " (config.json)");
}

Json inspect_checkpoint(const std::string& path) {
  verify_checkpoint(path);
  const Manifest manifest = read_manifest(path);
  Json tensors = Json::object();
  for (const auto& [name, entry] : manifest.tensors)
    tensors[name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"hash", entry.hash}};
  return {{"kind", "checkpoint"},      {"path", path},          {"step", manifest.step},
          {"layout", manifest.layout}, {"data", manifest.data}, {"config", manifest.config},
          {"tensors", tensors},        {"verified", true}};
}

Json inspect_model_file(const std::string& path, const Hdf5File& file) {
  Json tensors = Json::object();
  std::vector<char> bytes;
  for (const Hdf5File::Dataset& dataset : file.datasets()) {
    const Rectangle whole = Rectangle::whole(dataset.shape);
    bytes.resize(static_cast<size_t>(whole.count() * size_of(dataset.type)));
    file.read(dataset.name, whole, bytes.data());
    tensors[dataset.name] = {
        {"dtype", name_of(dataset.type)},
        {"shape", dataset.shape},
        {"hash", format_hash(hash_rectangle(dataset.name, whole, bytes.data(), size_of(dataset.type)))}};
  }
  const auto config = file.attribute("config");
  return {{"kind", "model file"},
          {"path", path},
          {"format_version", file.attribute("format_version").value_or("")},
          {"config", config ? config_of(*config, path) : Json()},
          {"tokenizer", file.attribute("tokenizer_json") || file.attribute("tokenizer_model")},
          {"tensors", tensors}};
}

Json inspect_hugging_face(const std::string& path, const std::function<void(const std::string&)>& notice) {
  const HuggingFaceFolder folder(path);
  for (const std::string& line : folder.notices()) notice(line);
  Json tensors = Json::object();
  for (const std::string& name : folder.tensor_names()) {
    const auto tensor = folder.find(name);
    tensors[name] = {{"dtype", name_of(tensor->type)}, {"shape", tensor->shape}};
  }
  return {{"kind", "hugging face folder"},
          {"path", path},
          {"config", config_of(folder.config_json(), path)},
          {"tensors", tensors}};
}

Json inspect_adapter(const std::string& path) {
  const auto adapter = ModelSource::open_adapter(path);
  Json tensors = Json::object();
  for (const std::string& name : adapter->tensor_names()) {
    const Hdf5File::Dataset stored = adapter->stored(name);
    tensors[name] = {{"dtype", name_of(stored.type)}, {"shape", stored.shape}};
  }
  return {{"kind", "peft adapter"},
          {"path", path},
          {"config", config_of(adapter->adapter()->config, path)},
          {"tensors", tensors}};
}

}  // namespace

Json inspect(const std::string& path, const std::function<void(const std::string&)>& notice) {
  const WorkingOn here(path);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ExitCode::kMissingInput, "there is nothing, {}, correct the path", path);
  if (fs::is_directory(path, ignored)) {
    if (fs::is_directory(fs::path(path) / "checkpoints", ignored))
      return inspect_checkpoint(newest_valid_checkpoint((fs::path(path) / "checkpoints").string(), notice));
    if (step_of_folder(path) >= 0 || fs::exists(fs::path(path) / "manifest.json", ignored))
      return inspect_checkpoint(path);
    if (fs::exists(fs::path(path) / "adapter_config.json", ignored)) return inspect_adapter(path);
    if (!fs::exists(fs::path(path) / "config.json", ignored)) (void)ModelSource::open(path);  // says what is missing
    return inspect_hugging_face(path, notice);
  }
  refuse_foreign_model_file(path);
  const Hdf5File file = Hdf5File::open(path);
  if (!file.find("tokens")) return inspect_model_file(path, file);
  const TokenFile tokens(path);
  tokens.verify();
  Json result = {{"kind", "token file"},
                 {"path", path},
                 {"documents", tokens.documents()},
                 {"tokens", tokens.tokens()},
                 {"weighted", tokens.weighted()},
                 {"verified", tokens.content_hash().has_value()}};
  if (tokens.content_hash()) result["content_hash"] = *tokens.content_hash();
  if (tokens.tokenizer_hash()) result["tokenizer_hash"] = *tokens.tokenizer_hash();
  return result;
}

}  // namespace carillon
