#include "launch/evaluate/point_inputs.h"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "data/checkpoint/tensor_hash.h"
#include "data/corpus/data_files.h"
#include "data/files/posix_file.h"
#include "data/formats/adapted_model.h"
#include "data/formats/model_source.h"
#include "launch/evaluate/tasks/task.h"
#include "runtime/progress.h"
#include "runtime/stop_request.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlock = int64_t{64} << 10;
constexpr int64_t kSampledBlocks = 64;
constexpr int64_t kAllBlocks = -1;

// Hashes `blocks` blocks spread evenly over the file, the first and the last among them; all of a file with fewer.
uint64_t hash_blocks(const std::string& path, int64_t blocks) {
  const InputFile file(path);
  const int64_t all = (file.size() + kBlock - 1) / kBlock;
  const int64_t count = blocks == kAllBlocks ? all : std::min(all, blocks);
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  const int64_t size = file.size();
  XXH3_64bits_update(state.get(), &size, sizeof size);
  std::vector<char> bytes(static_cast<size_t>(kBlock));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t place = kBlock * (count == all ? i : i * (all - 1) / (count - 1));
    const int64_t length = std::min(kBlock, size - place);
    throw_if_stop_requested("hashing what a sweep evaluates");
    file.read(place, bytes.data(), length);
    XXH3_64bits_update(state.get(), bytes.data(), static_cast<size_t>(length));
  }
  return XXH3_64bits_digest(state.get());
}

// A watching sweep asks every second, so a hash is kept while the file's inode, size and times stay the same.
uint64_t hash_of_file(const std::string& path, int64_t blocks) {
  using Identity = std::array<int64_t, 5>;
  static std::map<std::pair<std::string, int64_t>, std::pair<Identity, uint64_t>> known;
  struct stat status {};
  Identity identity{};
  if (stat(path.c_str(), &status) == 0)
    identity = {static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino), status.st_size,
                status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
  const auto found = known.find({path, blocks});
  if (found != known.end() && found->second.first == identity) return found->second.second;
  const uint64_t hash = hash_blocks(path, blocks);
  known[{path, blocks}] = {identity, hash};
  return hash;
}

// A folder's own files that decide what a model computes; subfolders and notes beside them do not.
std::vector<std::string> model_files(const std::string& given) {
  if (!fs::is_directory(given)) return {given};
  // A run that is an adapter or LongPPL's evaluator stands for its newest checkpoint.
  const std::string path =
      fs::is_directory(fs::path(given) / "checkpoints") ? resolve_model_path(given, [](const std::string&) {}) : given;
  const fs::path manifest = fs::path(path) / "manifest.json";
  if (fs::exists(manifest)) return {manifest.string()};
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(path)) {
    const std::string extension = entry.path().extension().string();
    for (const char* kind : {".safetensors", ".json", ".gguf", ".h5", ".model", ".jinja"})
      if (extension == kind && entry.is_regular_file()) files.push_back(entry.path().string());
  }
  if (const fs::path config = fs::path(path) / kBaseConfig; fs::exists(config)) files.push_back(config.string());
  std::sort(files.begin(), files.end());
  return files;
}

std::string describe_model(const std::string& path) {
  std::string text;
  for (const std::string& file : model_files(path))
    text += fmt::format("{} {:016x}\n", fs::path(file).filename().string(), hash_of_file(file, kSampledBlocks));
  return text;
}

// The base that a PEFT folder names. A checkpoint's manifest has the hash of its base, which opening it compares.
std::string base_of_adapter(const std::string& path) {
  if (!fs::exists(fs::path(path) / "adapter_config.json")) return {};
  const auto adapter = ModelSource::open_adapter(path)->adapter();
  return adapter ? adapter->base : std::string();
}

// Runs `describe` and hashes its text. Empty if a file cannot be read: the evaluation will say why, with place and
// remedy.
template <typename Describe>
std::string short_hash(const Describe& describe) {
  try {
    const std::string text = describe();
    return text.empty() ? text : hash_of_text(text).substr(0, 16);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kStopped) throw;
    return {};
  } catch (const fs::filesystem_error&) {
    return {};
  }
}

std::string hash_of_model(const std::string& path, const std::optional<std::string>& adapter) {
  return short_hash([&] {
    std::string text = describe_model(path);
    if (const std::string base = base_of_adapter(path); !base.empty()) text += "base\n" + describe_model(base);
    if (adapter) text += "adapter\n" + describe_model(*adapter);
    return text;
  });
}

std::string hash_of_task_inputs(const Json& task, const SweepConfig& config) {
  return short_hash([&] {
    std::string text = fmt::format("{}\n", name_of(config.runtime.dtype));
    // Otherwise the tokenizer is among the model's files.
    if (config.data.tokenizer) text += "tokenizer\n" + describe_model(*config.data.tokenizer);
    if (reads_documents(task)) {
      for (const std::string& path : find_data_files(data_paths(task, config)).paths)
        text += fmt::format("{:016x}\n", hash_of_file(path, kAllBlocks));
      const std::string chat = config.data.chat_template.value_or("");
      const bool is_file = fs::is_regular_file(chat);
      text += fmt::format("chat {} {}\n", is_file ? fmt::format("{:016x}", hash_of_file(chat, kAllBlocks)) : chat,
                          static_cast<int>(config.data.train_on));
    }
    if (task.contains("evaluator")) text += "evaluator\n" + describe_model(task["evaluator"].get<std::string>());
    return text;
  });
}

}  // namespace

void identify_inputs(std::vector<SweepPoint>& points, const SweepConfig& config) {
  const Activity activity("hashing what a sweep evaluates");
  std::map<std::string, std::string> models, tasks;
  for (SweepPoint& point : points) {
    const auto [model, new_model] = models.try_emplace(point.path);
    if (new_model) model->second = hash_of_model(point.path, config.adapter);
    const auto [task, new_task] = tasks.try_emplace(point.task["name"].get<std::string>());
    if (new_task) task->second = hash_of_task_inputs(point.task, config);
    point.model_hash = model->second;
    point.inputs_hash = task->second;
  }
}

}  // namespace carillon
