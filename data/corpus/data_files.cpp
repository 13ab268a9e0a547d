#include "data/corpus/data_files.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "runtime/error.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kKinds = ".jsonl, .txt, either with .gz or .zst appended, or .h5";

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

// Adds the files of a folder and its subfolders. Links to folders are not followed, because they may form a cycle.
void add_folder(const fs::path& folder, std::vector<std::string>& files) {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (is_hidden(entry->path())) {
      if (entry->is_directory(ignored)) entry.disable_recursion_pending();
    } else if (!entry->is_directory(ignored)) {
      files.push_back(entry->path().string());
    }
  }
  if (error)
    fail(ExitCode::kInputOutput, "cannot be read ({}), {}, check the folder's permissions", error.message(),
         folder.string());
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int result = glob(pattern.c_str(), GLOB_ERR, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  if (result != 0 && result != GLOB_NOMATCH)
    fail(ExitCode::kInputOutput, "cannot be searched, {}, check the folders' permissions", pattern);
  return paths;
}

// "a, b, c and 17 more".
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kShown = 4;
  const size_t shown = names.size() <= kShown + 1 ? names.size() : kShown;
  const std::string text = fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<long>(shown), ", "));
  return shown == names.size() ? text : fmt::format("{} and {} more", text, names.size() - shown);
}

void expand(const std::string& entry, DataFiles& files) {
  std::error_code error;
  std::vector<std::string> candidates;
  const bool is_folder = fs::is_directory(entry, error);
  if (is_folder) {
    add_folder(entry, candidates);
  } else if (fs::exists(fs::status(entry, error))) {
    files.paths.push_back(entry);
    return;
  } else if (entry.find_first_of("*?[") == std::string::npos) {
    fail(ExitCode::kMissingInput, "there is no such file, {}, correct the path", entry);
  } else {
    const std::vector<std::string> matches = matches_of(entry);
    if (matches.empty()) fail(ExitCode::kMissingInput, "no file matches the pattern, {}, correct it", entry);
    for (const std::string& match : matches) {
      if (fs::is_directory(match, error))
        add_folder(match, candidates);
      else
        candidates.push_back(match);
    }
  }
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::vector<std::string> taken, left_out;
  for (const std::string& path : candidates)
    (data_kind_of(path).content == DataContent::kUnknown ? left_out : taken).push_back(path);
  if (taken.empty())
    fail(ExitCode::kMissingInput, "{}, {}, name files that end in {}",
         is_folder ? "the folder holds no data" : "what the pattern matches is not data", entry, kKinds);
  files.notices.push_back(
      fmt::format("{}: {} file{}: {}{}", entry, taken.size(), taken.size() == 1 ? "" : "s", some_of(taken),
                  left_out.empty() ? "" : fmt::format("; left out {}: {}", left_out.size(), some_of(left_out))));
  files.paths.insert(files.paths.end(), taken.begin(), taken.end());
}

}  // namespace

DataKind data_kind_of(std::string_view path) {
  DataKind kind;
  kind.packer = packer_of(path);
  if (kind.packer != Packer::kNone) path.remove_suffix(path.size() - path.rfind('.'));
  if (path.ends_with(".jsonl")) kind.content = DataContent::kJsonLines;
  if (path.ends_with(".txt")) kind.content = DataContent::kText;
  if (path.ends_with(".h5") && kind.packer == Packer::kNone) kind.content = DataContent::kTokens;
  return kind;
}

DataFiles find_data_files(const std::vector<std::string>& entries) {
  DataFiles files;
  for (const std::string& entry : entries) expand(entry, files);
  for (const Packer packer : {Packer::kGzip, Packer::kZstd}) {
    std::vector<std::string> packed;
    for (const std::string& path : files.paths)
      if (data_kind_of(path).packer == packer) packed.push_back(path);
    if (!packed.empty())
      files.notices.push_back(fmt::format("unpacked by {} while read: {}", name_of(packer), some_of(packed)));
  }
  return files;
}

}  // namespace carillon
