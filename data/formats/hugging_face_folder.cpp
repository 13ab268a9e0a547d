#include "data/formats/hugging_face_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "data/files/output_file.h"
#include "data/formats/tensor_names.h"
#include "data/formats/tied_head.h"
#include "runtime/check.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr int64_t kLargestConfig = int64_t{16} << 20, kLargestIndex = int64_t{256} << 20;

// Whether this is a base name of letters, digits, dots, dashes and underscores that ends as weights do, without a path
// or control characters.
bool is_plain_name(const std::string& name) {
  constexpr std::string_view kEnding = ".safetensors";
  return name.size() > kEnding.size() && name.ends_with(kEnding) && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return c < 128 && (std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-');
         });
}

const std::map<std::string, StoredType>& readable_types() {
  static const std::map<std::string, StoredType> types = {{"F64", StoredType::kFloat64},
                                                          {"F32", StoredType::kFloat32},
                                                          {"F16", StoredType::kFloat16},
                                                          {"BF16", StoredType::kBFloat16}};
  return types;
}

}  // namespace

HuggingFaceFolder::HuggingFaceFolder(const std::string& path) : path_(path) {
  const fs::path folder(path);
  refuse_foreign_model_file(path);
  config_ = read_whole_file((folder / "config.json").string(), kLargestConfig);
  check_json_limits(config_, (folder / "config.json").string());
  std::error_code ignored;
  const bool single = fs::exists(folder / kSingle, ignored), index = fs::exists(folder / kIndex, ignored);
  if (!single && !index)
    fail(ExitCode::kMissingInput, "there are no safetensors weights, {}, convert the model to safetensors", path);
  const Places stored = single ? open_single(kSingle) : open_index((folder / kIndex).string());
  if (single && index)
    notices_.push_back(
        fmt::format("{} holds {} and {}: the first is read, as transformers does; remove the one that is "
                    "of another model",
                    path, kSingle, kIndex));
  std::vector<std::string> names;
  for (const auto& [name, place] : stored) names.push_back(name);
  const Json config = try_parse_json(config_).value_or(Json());
  for (const auto& [ours, theirs] : our_tensor_names(names, config, path, notices_))
    place_.emplace(ours, stored.at(theirs));
  note_others();
  note_tied_head();
}

const SafetensorsFile& HuggingFaceFolder::open_file(const std::string& name) {
  auto& opened = files_[name];
  if (!opened) opened = std::make_unique<SafetensorsFile>((fs::path(path_) / name).string());
  return *opened;
}

HuggingFaceFolder::Places HuggingFaceFolder::open_single(const std::string& name) {
  const SafetensorsFile& file = open_file(name);
  Places places;
  for (const auto& [tensor, entry] : file.entries()) places.emplace(tensor, Place{&file, &entry});
  return places;
}

HuggingFaceFolder::Places HuggingFaceFolder::open_index(const std::string& index) {
  const auto json = parse_json<nlohmann::json>(read_whole_file(index, kLargestIndex), index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    fail(ExitCode::kBadInput, "holds no weight_map, {}, fetch the index again", index);
  Places places;
  for (const auto& [name, file] : json["weight_map"].items()) {
    const std::string base = file.is_string() ? file.get<std::string>() : "";
    if (!is_plain_name(base))
      fail(ExitCode::kBadInput,
           "tensor {} is said to be in {}, {}, only files NAME.safetensors of the same folder are read", name,
           file.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 200), index);
    std::error_code ignored;
    if (!files_.contains(base) && !fs::exists(fs::path(path_) / base, ignored))
      fail(ExitCode::kMissingInput,
           "the file {} that the index names is not there, {}, fetch it, or remove an index "
           "left over from another model",
           base, index);
    const SafetensorsFile& opened = open_file(base);
    const auto entry = opened.entries().find(name);
    if (entry == opened.entries().end())
      fail(ExitCode::kBadInput, "tensor {} is not in the file its index names, {}, fetch both again", name,
           opened.path());
    places.emplace(name, Place{&opened, &entry->second});
  }
  if (places.empty()) fail(ExitCode::kBadInput, "its weight_map is empty, {}, fetch the index again", index);
  int64_t unmapped = 0;
  for (const auto& [base, file] : files_) unmapped += static_cast<int64_t>(file->entries().size());
  unmapped -= static_cast<int64_t>(places.size());
  if (unmapped > 0)
    notices_.push_back(
        fmt::format("{} tensors in the files of {} are not in its index and are left out", unmapped, path_));
  return places;
}

// Mentions buffers that no model computes with: integers and other types that are not floating-point numbers.
void HuggingFaceFolder::note_others() {
  int64_t others = 0;
  std::string first;
  for (const auto& [name, place] : place_) {
    if (readable_types().contains(place.entry->dtype)) continue;
    if (others++ == 0) first = fmt::format("{} ({})", name, place.entry->dtype);
  }
  if (others > 0)
    notices_.push_back(fmt::format("{} holds {} tensor{} that {} no floating-point numbers: {}{}", path_, others,
                                   others == 1 ? "" : "s", others == 1 ? "is" : "are", first,
                                   others == 1 ? "" : fmt::format(" and {} more", others - 1)));
}

void HuggingFaceFolder::note_tied_head() {
  const auto values = [&](const char* name) -> std::optional<StoredValues> {
    const auto place = place_.find(name);
    if (place == place_.end() || !readable_types().contains(place->second.entry->dtype)) return std::nullopt;
    const auto tensor = find(name);
    return StoredValues{tensor->type, tensor->shape, tensor->data};
  };
  const auto head = values("lm_head.weight"), embedding = values("model.embed_tokens.weight");
  if (head && embedding)
    config_ = config_of_stored_head(
        config_, [&] { return equal_values(*head, *embedding); }, path_, notices_);
}

std::vector<std::string> HuggingFaceFolder::tensor_names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : place_)
    if (readable_types().contains(place.entry->dtype)) names.push_back(name);
  return names;
}

std::optional<HuggingFaceFolder::StoredTensor> HuggingFaceFolder::find(const std::string& name) const {
  const auto place = place_.find(name);
  if (place == place_.end()) return std::nullopt;
  const SafetensorsFile::Entry& entry = *place->second.entry;
  return stored_tensor(*place->second.file, name, entry);
}

HuggingFaceFolder::StoredTensor stored_tensor(const SafetensorsFile& file, const std::string& name,
                                              const SafetensorsFile::Entry& entry) {
  const auto type = readable_types().find(entry.dtype);
  if (type == readable_types().end())
    fail(ExitCode::kBadInput, "tensor {} is {}, {}, only F64, F32, F16 and BF16 weights are read: dequantise the model",
         name, entry.dtype, file.path());
  return HuggingFaceFolder::StoredTensor{type->second, entry.shape, file.bytes_of(entry).data(), file.path()};
}

const std::vector<std::string>& tokenizer_file_names() {
  static const std::vector<std::string> names = {"tokenizer.json",
                                                 "tokenizer_config.json",
                                                 "tokenizer.model",
                                                 "special_tokens_map.json",
                                                 "added_tokens.json",
                                                 "chat_template.jinja",
                                                 "generation_config.json",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 kToolTemplate};
  return names;
}

std::map<std::string, std::string> tokenizer_files_at(const std::string& path) {
  std::map<std::string, std::string> files;
  std::error_code ignored;
  const bool is_folder = fs::is_directory(path, ignored);
  const fs::path folder = is_folder ? fs::path(path) : fs::path(path).parent_path();
  for (const std::string& name : tokenizer_file_names()) {
    // Another tokenizer may lie next to a file that was named.
    if (!is_folder && (name == "tokenizer.json" || name == "tokenizer.model")) continue;
    if (fs::exists(folder / name, ignored)) files[name] = read_whole_file((folder / name).string());
  }
  if (!is_folder) {
    const bool sentence_piece = fs::path(path).extension() == ".model";
    files[sentence_piece ? "tokenizer.model" : "tokenizer.json"] = read_whole_file(path);
  }
  return files;
}

void write_tokenizer_files(const std::string& folder, const std::map<std::string, std::string>& files) {
  for (const auto& [name, text] : files) {
    const fs::path path = fs::path(folder) / name;
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error)
      fail_to_create("cannot be created", error.value(), path.parent_path().string(), "make the folder writable");
    write_whole_file(path.string(), text);
  }
}

void refuse_foreign_model_file(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return;
  const InputFile file(path);
  char head[16] = {};
  const int64_t count = std::min<int64_t>(file.size(), sizeof head);
  file.read(0, head, count);
  const std::string_view begin(head, static_cast<size_t>(count));
  const std::string folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path().string() : ".";
  if (begin.starts_with("GGUF"))
    fail(ExitCode::kBadInput,
         "is a GGUF file, which is not read, {}, give the Hugging Face folder (safetensors) it was made from", path);
  if (path.ends_with(".safetensors") || (begin.size() >= 9 && begin[8] == '{'))
    fail(ExitCode::kBadInput,
         "is one file of weights, without the model's config.json, {}, give the folder it lies in: {}", path, folder);
  if (begin.starts_with("PK\x03\x04") || begin.starts_with("\x80\x02"))
    fail(ExitCode::kBadInput,
         "is a PyTorch archive, which is not read, {}, save the model as safetensors (save_pretrained) and give its "
         "folder",
         path);
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
