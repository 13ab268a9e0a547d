#include "launch/train/run_tokenizer.h"

#include <filesystem>

#include "data/files/output_file.h"
#include "data/files/posix_file.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// What a tokenizer's folder holds of it, as Hugging Face names the files.
constexpr const char* kNames[] = {"tokenizer.json",
                                  "tokenizer.model",
                                  "tokenizer_config.json",
                                  "added_tokens.json",
                                  "special_tokens_map.json",
                                  "generation_config.json",
                                  "chat_template.jinja",
                                  "vocab.json",
                                  "merges.txt"};
constexpr int64_t kLargest = int64_t{1} << 30;

std::map<std::string, std::string> files_at(const std::string& path) {
  std::map<std::string, std::string> files;
  const fs::path given(path);
  const fs::path folder = fs::is_directory(given) ? given : given.parent_path();
  for (const char* name : kNames)
    if (fs::exists(folder / name)) files[name] = read_whole_file((folder / name).string(), kLargest);
  if (fs::is_directory(given)) return files;
  // A file that is named itself comes first, under the name its kind has.
  files.erase("tokenizer.json");
  files.erase("tokenizer.model");
  files[given.extension() == ".model" ? "tokenizer.model" : "tokenizer.json"] = read_whole_file(path, kLargest);
  return files;
}

}  // namespace

std::map<std::string, std::string> read_tokenizer_files(const RunConfig& config, const ModelSource* source) {
  if (config.data.tokenizer) return files_at(*config.data.tokenizer);
  return source != nullptr ? source->tokenizer_files() : std::map<std::string, std::string>{};
}

void keep_tokenizer_files(const std::string& output, const std::map<std::string, std::string>& files) {
  const fs::path folder = fs::path(output) / kRunTokenizerFolder;
  std::error_code error;
  for (const char* name : kNames)
    if (!files.contains(name)) fs::remove(folder / name, error);
  if (files.empty()) return;
  fs::create_directories(folder, error);
  if (error)
    fail(ExitCode::kCannotCreate, "cannot be created ({}), {}, make the run's folder writable", error.message(),
         folder.string());
  for (const auto& [name, text] : files) write_whole_file((folder / name).string(), text);
}

}  // namespace carillon
