#include "tests/fuzz/target.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/error.h"
#include "runtime/foreign_error.h"
#include "tests/support/temporary_folder.h"

namespace carillon::fuzz {

namespace fs = std::filesystem;

void broken(const std::string& what) {
  std::fprintf(stderr, "fuzz: %s\n", what.c_str());
  std::abort();
}

void run_target(const Target& target, std::string_view bytes) {
  try {
    target.run(bytes);
  } catch (...) {
    const Error error = error_in_flight();
    const ExitCode code = error.code();
    if (code != ExitCode::kUsage && code != ExitCode::kBadInput && code != ExitCode::kMissingInput)
      broken(fmt::format("{}: exit code {}: {}", target.name, static_cast<int>(code), error.what()));
    const std::string_view text = error.what();
    if (std::any_of(text.begin(), text.end(), [](char c) { return (c >= 0 && c < ' ' && c != '\n') || c == 0x7F; }))
      broken(target.name + ": control characters in an error's text");
  }
}

std::string scratch_folder() {
  static const testing::TemporaryFolder folder;
  return folder.path();
}

std::string write_file(const std::string& name, std::string_view bytes) {
  const std::string path = scratch_folder() + "/" + name;
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

std::string text_of(const std::string& path) { return testing::read_whole(path); }

std::vector<std::string> texts_below(const std::string& folder, std::string_view ending) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().string().ends_with(ending)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> texts;
  for (const fs::path& path : paths) texts.push_back(text_of(path.string()));
  return texts;
}

std::vector<std::string> parts_of(std::string_view bytes, size_t count) {
  std::vector<std::string> parts;
  while (parts.size() + 1 < count) {
    const size_t end = bytes.find(kParting);
    if (end == std::string_view::npos) break;
    parts.emplace_back(bytes.substr(0, end));
    bytes.remove_prefix(end + kParting.size());
  }
  parts.emplace_back(bytes);
  parts.resize(count);
  return parts;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) text += (i == 0 ? "" : std::string(kParting)) + parts[i];
  return text;
}

}  // namespace carillon::fuzz
