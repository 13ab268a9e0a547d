#include "data/checkpoint/checkpoint_folders.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "data/checkpoint/checkpoint.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

bool is_readable(const std::string& path) {
  try {
    (void)read_manifest_if_complete(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::vector<std::string> set_checkpoints_aside(const std::string& folder, int64_t from) {
  const std::vector<CheckpointFolder> all = list_checkpoints(folder);
  const bool older = std::any_of(all.begin(), all.end(), [&](const CheckpointFolder& found) {
    return found.step < from && is_readable(found.path);
  });
  std::vector<std::string> aside;
  if (!older) return aside;
  for (const CheckpointFolder& found : all) {
    if (found.step < from) continue;
    const std::string base = folder + "/.bad-" + fs::path(found.path).filename().string();
    std::string name = base;
    for (int number = 2; fs::exists(name); ++number) name = fmt::format("{}-{}", base, number);
    std::error_code error;
    fs::rename(found.path, name, error);
    if (error)
      fail(ExitCode::kInputOutput, "cannot be renamed to {} ({}), {}, check the disk", name, error.message(),
           found.path);
    aside.push_back(name);
  }
  return aside;
}

}  // namespace carillon
