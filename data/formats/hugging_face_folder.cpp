#include "data/formats/hugging_face_folder.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/check.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

const std::map<std::string, StoredType>& readable_types() {
  static const std::map<std::string, StoredType> types = {{"F64", StoredType::kFloat64},
                                                          {"F32", StoredType::kFloat32},
                                                          {"F16", StoredType::kFloat16},
                                                          {"BF16", StoredType::kBFloat16}};
  return types;
}

}  // namespace

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ExitCode::kMissingInput, "cannot be opened, {}, correct the path", path);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad()) fail(ExitCode::kInputOutput, "cannot be read, {}, check the disk", path);
  return text;
}

HuggingFaceFolder::HuggingFaceFolder(const std::string& path) : path_(path) {
  const fs::path folder(path);
  config_ = read_text_file((folder / "config.json").string());
  if (fs::exists(folder / kIndex)) {
    open_index((folder / kIndex).string());
  } else if (fs::exists(folder / kSingle)) {
    files_[kSingle] = std::make_unique<SafetensorsFile>((folder / kSingle).string());
    for (const auto& [name, entry] : files_[kSingle]->entries()) place_[name] = files_[kSingle].get();
  } else {
    fail(ExitCode::kMissingInput, "there are no safetensors weights, {}, convert the model to safetensors", path);
  }
}

void HuggingFaceFolder::open_index(const std::string& index) {
  const Json json = Json::parse(read_text_file(index), nullptr, false);
  if (json.is_discarded() || !json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    fail(ExitCode::kBadInput, "holds no weight_map, {}, fetch the index again", index);
  for (const auto& [name, file] : json["weight_map"].items()) {
    const std::string base = file.is_string() ? file.get<std::string>() : "";
    if (base.empty() || base.find('/') != std::string::npos || base.find('\\') != std::string::npos || base == "..")
      fail(ExitCode::kBadInput, "tensor {} is said to be in {}, {}, only files of the same folder are read", name,
           file.dump(), index);
    auto& opened = files_[base];
    if (!opened) opened = std::make_unique<SafetensorsFile>((fs::path(path_) / base).string());
    if (!opened->entries().contains(name))
      fail(ExitCode::kBadInput, "tensor {} is not in the file its index names, {}, fetch both again", name,
           opened->path());
    place_[name] = opened.get();
  }
}

std::vector<std::string> HuggingFaceFolder::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : place_) names.push_back(name);
  return names;
}

std::optional<HuggingFaceFolder::StoredTensor> HuggingFaceFolder::find(const std::string& name) const {
  const auto place = place_.find(name);
  if (place == place_.end()) return std::nullopt;
  const SafetensorsFile::Entry& entry = place->second->entries().at(name);
  const auto type = readable_types().find(entry.dtype);
  if (type == readable_types().end())
    fail(ExitCode::kBadInput, "tensor {} is {}, {}, only F64, F32, F16 and BF16 weights are read: dequantise the model",
         name, entry.dtype, place->second->path());
  return StoredTensor{type->second, entry.shape, place->second->bytes_of(entry).data(), place->second->path()};
}

void copy_rectangle(const HuggingFaceFolder::StoredTensor& tensor, const Rectangle& rectangle,
                    std::vector<char>& bytes) {
  CHECK(tensor.shape == rectangle.global_shape && !tensor.shape.empty() && tensor.shape.size() <= 2,
        "rectangles are of vectors and matrices", tensor.shape.size());
  const int64_t width = size_of(tensor.type);
  bytes.resize(static_cast<size_t>(rectangle.count() * width));
  const bool matrix = tensor.shape.size() == 2;
  const int64_t row = matrix ? tensor.shape[1] : 1;
  const int64_t column = matrix ? rectangle.offset[1] : 0, columns = matrix ? rectangle.extent[1] : 1;
  const char* from = reinterpret_cast<const char*>(tensor.data);
  if (columns == row) {
    if (!bytes.empty()) std::memcpy(bytes.data(), from + rectangle.offset[0] * row * width, bytes.size());
    return;
  }
  for (int64_t r = 0; r < rectangle.extent[0]; ++r)
    std::memcpy(bytes.data() + r * columns * width, from + ((rectangle.offset[0] + r) * row + column) * width,
                static_cast<size_t>(columns * width));
}

}  // namespace carillon
