#include "launch/session/same_inputs.h"

#include <algorithm>
#include <filesystem>

#include "data/files/same_files.h"
#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Returns rank 0's list on every rank.
std::vector<std::string> from_rank_0(Communicator& world, const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& entry : list) text += entry + '\0';
  text = broadcast_text(world, text);
  std::vector<std::string> result;
  for (size_t at = 0, end = 0; at < text.size(); at = end + 1) {
    end = text.find('\0', at);
    result.push_back(text.substr(at, end - at));
  }
  return result;
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::vector<std::string> files_of_model(const std::string& path) {
  if (is_file(path)) return {path};
  std::vector<std::string> files;
  const fs::path folder(path);
  const bool checkpoint = is_file(folder / "manifest.json");
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string extension = entry->path().extension();
    const bool read_by_us = checkpoint ? entry->path().filename() == "manifest.json" || extension == ".h5"
                                       : extension == ".json" || extension == ".safetensors" || extension == ".model" ||
                                             extension == ".jinja";
    if (read_by_us && is_file(entry->path())) files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

void require_same_command(Communicator& world, const std::vector<std::string>& words,
                          const std::vector<std::string>& files) {
  if (world.size() == 1) return;
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  require_same_text(world, "the command line", line, line);
  std::vector<std::string> configurations;
  for (const std::string& file : files)
    if ((file.ends_with(".yaml") || file.ends_with(".yml")) && is_file(file)) configurations.push_back(file);
  require_same_files(world, from_rank_0(world, configurations));
}

void require_same_model(Communicator& world, const std::string& path) {
  if (world.size() == 1) return;
  std::vector<std::string> files;
  agree(world, [&] {
    if (world.rank() == 0) files = files_of_model(path);
  });
  require_same_files(world, from_rank_0(world, files));
}

}  // namespace carillon
