#include "launch/train/run_tokenizer.h"

#include <filesystem>

#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "data/formats/hugging_face_folder.h"

namespace carillon {

namespace fs = std::filesystem;

std::map<std::string, std::string> read_tokenizer_files(const RunConfig& config, const ModelSource* source) {
  if (config.data.tokenizer) return tokenizer_files_at(*config.data.tokenizer);
  return source != nullptr ? source->tokenizer_files() : std::map<std::string, std::string>{};
}

void keep_tokenizer_files(const std::string& output, const std::map<std::string, std::string>& files) {
  const fs::path folder = fs::path(output) / kRunTokenizerFolder;
  std::error_code error;
  for (const std::string& name : tokenizer_file_names())
    if (!files.contains(name)) fs::remove(folder / name, error);
  if (files.empty()) return;
  fs::create_directories(folder, error);
  if (error) fail_to_create("cannot be created", error.value(), folder.string(), "make the run's folder writable");
  write_tokenizer_files(folder.string(), files);
}

}  // namespace carillon
