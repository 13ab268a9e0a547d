#include "data/checkpoint/manifest_file.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "data/checkpoint/tensor_hash.h"
#include "data/files/output_file.h"
#include "data/files/posix_file.h"
#include "runtime/json_lines.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// The hash comes last. It is computed over the text with zeros in place of its own digits.
constexpr std::string_view kHashKey = "\"hash\": \"";
const std::string kZeros(32, '0');
constexpr int64_t kLargestManifest = int64_t{64} << 20;

Json to_json(const Manifest& manifest) {
  Json tensors = Json::object();
  for (const auto& [name, entry] : manifest.tensors)
    tensors[name] = {{"dtype", entry.dtype}, {"shape", entry.shape}, {"hash", entry.hash}};
  return {{"step", manifest.step}, {"format_version", kCheckpointFormat}, {"layout", manifest.layout},
          {"data", manifest.data}, {"config", manifest.config},           {"tensors", tensors},
          {"hash", kZeros}};
}

// Swaps the digits after the last hash key with `digits`; false if there is no such key.
bool swap_hash(std::string& text, std::string& digits) {
  const size_t key = text.rfind(kHashKey);
  if (key == std::string::npos || key + kHashKey.size() + 32 > text.size()) return false;
  std::string found = text.substr(key + kHashKey.size(), 32);
  text.replace(key + kHashKey.size(), 32, digits);
  digits = std::move(found);
  return true;
}

}  // namespace

void write_manifest_file(const std::string& path, const Manifest& manifest) {
  std::string text = to_json(manifest).dump(1) + "\n";
  std::string hash = hash_of_text(text);
  swap_hash(text, hash);
  OutputFile file(path);
  file.write(text);
  file.commit();
}

std::string folder_of_step(int64_t step) { return fmt::format("step-{:08}", step); }

int64_t step_of_folder(const std::string& path) {
  fs::path folder(path);
  if (folder.filename().empty()) folder = folder.parent_path();
  const std::string name = folder.filename();
  int64_t step = -1;
  if (!name.starts_with("step-")) return -1;
  const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
  if (error != std::errc() || step < 0) return -1;
  return name == folder_of_step(step) ? step : -1;  // two spellings of one step would be ambiguous
}

std::vector<CheckpointFolder> list_checkpoints(const std::string& folder) {
  std::vector<CheckpointFolder> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const int64_t step = step_of_folder(entry->path());
    if (step >= 0) found.push_back({step, entry->path()});
  }
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
    fail(ExitCode::kInputOutput, "the checkpoints cannot be listed ({}), {}, check the disk and start again",
         error.message(), folder);
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step > b.step; });
  return found;
}

Manifest read_manifest_if_complete(const std::string& folder) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(folder, error);
  if (!fs::is_directory(status))
    fail(ExitCode::kBadInput, "is {}, {}, put the checkpoint's folder itself there",
         fs::is_symlink(status) ? "a symbolic link" : "no folder", folder);
  Manifest manifest = read_manifest(folder);
  as_part_of_checkpoint([&] { InputFile(folder + "/state.h5", Links::kRefuse); });
  return manifest;
}

void as_part_of_checkpoint(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    if (error.code() != ExitCode::kMissingInput) throw;
    fail(ExitCode::kBadInput, "the checkpoint is not whole: {}", error.what());
  }
}

Manifest read_manifest(const std::string& folder) {
  const std::string path = (fs::path(folder) / "manifest.json").string();
  std::string text;
  as_part_of_checkpoint([&] { text = read_whole_file(path, kLargestManifest, Links::kRefuse); });
  std::string hash = kZeros;
  if (!swap_hash(text, hash) || hash_of_text(text) != hash)
    fail(ExitCode::kBadInput, "the manifest does not match its own hash, {}, use another checkpoint", path);
  Manifest manifest;
  const std::string remedy = "use another checkpoint";
  const Json json = parse_json_object(text, path, remedy);
  const JsonFields fields(json, {path, remedy});
  if (const int64_t format = fields.integer("format_version", 1); format > kCheckpointFormat)
    fail(ExitCode::kBadInput, "is of format {}, newer than this carillon's {}, {}, use a newer carillon", format,
         kCheckpointFormat, path);
  manifest.step = fields.integer("step", 0);
  manifest.layout = fields.object("layout").json();
  manifest.data = fields.object("data").json();
  manifest.config = fields.object("config").json();
  const JsonFields tensors = fields.object("tensors");
  for (const auto& item : tensors.json().items()) {
    const JsonFields entry = tensors.object(item.key());
    manifest.tensors[item.key()] = {entry.text("dtype"), entry.integers("shape", 0), entry.text("hash")};
  }
  if (const int64_t named = step_of_folder(folder); named >= 0 && named != manifest.step)
    fail(ExitCode::kBadInput, "the manifest is of step {}, {}, the folder was renamed or copied wrongly", manifest.step,
         path);
  return manifest;
}

}  // namespace carillon
