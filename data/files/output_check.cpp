#include "data/files/output_check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "data/files/hdf5_file.h"
#include "data/files/posix_file.h"
#include "runtime/error.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// What identifies a file to the kernel, and what kind it is.
struct Identity {
  dev_t device;
  ino_t number;
  mode_t mode;
  off_t size;
  bool operator==(const Identity& other) const { return device == other.device && number == other.number; }
};
std::optional<Identity> identity_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return Identity{status.st_dev, status.st_ino, status.st_mode, status.st_size};
}

// Returns the input, or the file in it, that is the same as `wanted`; empty if there is none.
std::string found_in(const Identity& wanted, const std::string& input) {
  const auto identity = identity_of(input);
  if (!identity) return "";
  if (*identity == wanted) return input;
  if (!S_ISDIR(identity->mode)) return "";
  std::error_code error;
  fs::recursive_directory_iterator entry(input, fs::directory_options::skip_permission_denied, error), end;
  for (; !error && entry != end; entry.increment(error))
    if (identity_of(entry->path().string()) == wanted) return entry->path().string();
  return "";
}

constexpr int64_t kBeginning = 1 << 16;

std::string beginning_of(const std::string& path) {
  const InputFile file(path);
  std::string text(static_cast<size_t>(std::min(file.size(), kBeginning)), '\0');
  file.read(0, text.data(), static_cast<int64_t>(text.size()));
  return text;
}

// Whether the file begins with `start` and its first line has all of `keys`. If the first line is longer than
// kBeginning, only `start` is checked.
bool first_line_has(const std::string& path, std::string_view start, std::initializer_list<const char*> keys) {
  const std::string text = beginning_of(path);
  if (!text.starts_with(start)) return false;
  const size_t end = text.find('\n');
  if (end == std::string::npos && static_cast<int64_t>(text.size()) == kBeginning) return true;
  for (const char* key : keys)
    if (text.substr(0, end).find('"' + std::string(key) + "\":") == std::string::npos) return false;
  return true;
}

bool is_own_hdf5(const std::string& path, OutputKind kind) {
  if (!beginning_of(path).starts_with("\x89HDF\r\n")) return false;
  try {
    const Hdf5File file = Hdf5File::open(path);
    if (kind == OutputKind::kModelFile) return file.attribute("format_version").has_value();
    return file.attribute("kind").value_or("").starts_with("carillon tokens ");
  } catch (const Error& error) {
    if (error.code() == ExitCode::kInputOutput) throw;
    return false;  // damaged: its origin is unknown
  }
}

bool is_own(const std::string& path, OutputKind kind) {
  switch (kind) {
    case OutputKind::kModelFile:
    case OutputKind::kTokenFile:
      return is_own_hdf5(path, kind);
    case OutputKind::kScores:
      return first_line_has(path, "{\"id\":", {"tokens", "logprobs", "loss"});
    case OutputKind::kSequences:
      return first_line_has(path, "{\"tokens\":[", {"loss_mask"});
    case OutputKind::kCompletions:
      return first_line_has(path, "{\"id\":", {"tokens"}) && !first_line_has(path, "", {"logprobs"});
    case OutputKind::kPage:
      return beginning_of(path).find("<meta name=\"generator\" content=\"carillon") != std::string::npos;
    case OutputKind::kGguf:
      return beginning_of(path).starts_with("GGUF") && beginning_of(path).find("carillon.rope") != std::string::npos;
    case OutputKind::kProfile:
      return beginning_of(path).starts_with("{\n  \"version\":") &&
             beginning_of(path).find("\n  \"library_bytes\":") != std::string::npos;
    case OutputKind::kTrace:
      return beginning_of(path).starts_with("[\n{\"ph\":");
    case OutputKind::kModelFolder:
      return false;  // a file where a folder is wanted
    case OutputKind::kChart:
      return beginning_of(path).starts_with("<svg ") &&
             beginning_of(path).find("aria-label=\"wavelength, tokens") != std::string::npos;
  }
  return false;
}

// Refuses a folder in which an export would mix with files of another kind.
void check_folder(const std::string& folder, bool overwrite) {
  std::error_code error;
  bool weights = false;
  std::string taken, other;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) weights = true;
    if (name == "checkpoints" || name == "evals.jsonl" || name == "metrics.jsonl") other = name;
    if (name == "config.json" || name == "tokenizer.json" || name == "tokenizer.model") taken = name;
  }
  if (!overwrite && !other.empty())
    fail(ExitCode::kUsage,
         "the folder {} has {}: it is that of a run or a sweep, on the command line, name a folder of its own or "
         "add overwrite=true",
         folder, other);
  if (overwrite || weights || taken.empty()) return;
  fail(ExitCode::kUsage,
       "the folder {} has a {} and is not a model's, on the command line, name another folder or add overwrite=true",
       folder, taken);
}

// Shells leave a ~ behind `output=` as it is, and a folder of that name would be made.
void require_name(const std::string& output) {
  if (output.empty()) fail(ExitCode::kUsage, "the output has no name, on the command line, name one");
  if (output == "~" || output.starts_with("~/"))
    fail(ExitCode::kUsage,
         "the output {} begins with ~, which only a shell replaces, on the command line, write the "
         "whole path",
         output);
  // A folder that is created on the way would change what MISSING/../NAME means after the checks below.
  fs::path before;
  for (const fs::path& part : fs::path(output)) {
    if (part == ".." && !before.empty() && !identity_of(before.string()))
      fail(ExitCode::kUsage,
           "the output {} leads through {}, which does not exist, and back, on the command line, name it without",
           output, before.string());
    before /= part;
  }
}

// Error 64 when what `there` is, at `output`, is one of the inputs.
void refuse_inputs(const std::string& output, const Identity& there, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs)
    if (const std::string found = found_in(there, input); !found.empty())
      fail(ExitCode::kUsage, "the output {} is {}, which is read, on the command line, name another output", output,
           found == input ? "the input " + input : "the file " + found + " of the input " + input);
}

}  // namespace

void check_output(const std::string& output, const std::vector<std::string>& inputs, OutputKind kind, bool overwrite) {
  require_name(output);
  std::string file = output;  // FILE/ is told what FILE would be
  while (file.size() > 1 && file.back() == '/') file.pop_back();
  const auto there = identity_of(file);
  std::error_code ignored;
  if (!there && kind == OutputKind::kModelFolder && fs::is_symlink(file, ignored))
    fail(ExitCode::kUsage, "the output {} is a link to something that does not exist, on the command line, remove it",
         output);
  if (!there) return;
  const bool folder = S_ISDIR(there->mode);
  if (!folder && !S_ISREG(there->mode)) {
    if (kind == OutputKind::kModelFile || kind == OutputKind::kTokenFile)
      fail(ExitCode::kUsage,
           "the output {} is a device or a pipe, where HDF5 cannot write, on the command line, name a file", output);
    return;
  }
  refuse_inputs(output, *there, inputs);
  if (folder) {
    if (kind == OutputKind::kModelFolder) return check_folder(output, overwrite);
    fail(ExitCode::kUsage, "the output {} is a folder, on the command line, name a file", output);
  }
  if (kind == OutputKind::kModelFolder)
    fail(ExitCode::kUsage, "the output {} is a file, on the command line, name a folder", output);
  if (overwrite || there->size == 0 || is_own(output, kind)) return;
  fail(ExitCode::kUsage,
       "the output {} exists and is not a file of this command, on the command line, name another "
       "output or add overwrite=true",
       output);
}

void check_result_folder(const ResultFolder& folder, const std::vector<std::string>& inputs, bool overwrite) {
  require_name(folder.path);
  if (folder.known) return;
  for (const std::string& other : folder.others)
    if (identity_of((fs::path(folder.path) / other).string()))
      fail(ExitCode::kUsage,
           "the output {} has a {}: it is a folder of another kind, in the configuration, name a folder of its own",
           folder.path, other);
  for (const std::string& name : folder.names) {
    const std::string path = (fs::path(folder.path) / name).string();
    const auto there = identity_of(path);
    if (!there || !S_ISREG(there->mode) || there->size == 0) continue;
    refuse_inputs(path, *there, inputs);
    if (!overwrite && !is_own(path, OutputKind::kPage))
      fail(ExitCode::kUsage,
           "the output {} has a {} that would be replaced, in the configuration, name another output or add "
           "overwrite=true",
           folder.path, name);
  }
}

}  // namespace carillon
