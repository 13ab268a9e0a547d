// The memory a rank holds before its first tensor: code, tables and buffers that libraries load on first use. All of
// them must have been used before measuring, so this performs a run of two steps with its checkpoint.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "data/files/output_file.h"
#include "launch/machine/bench/bench.h"
#include "launch/train/trainer.h"
#include "runtime/text.h"

namespace carillon {
namespace {

namespace fs = std::filesystem;

// Returns the resident memory of this process. The second number of statm, in pages.
int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// A folder that the first rank creates, shared by all, and that is removed with this object.
class SharedFolder {
 public:
  SharedFolder(Communicator& world, const std::string& inside) : owner_(world.rank() == 0) {
    std::string path = inside + "/.carillon-bench-XXXXXX";
    agree(world, [&] {
      if (owner_ && ::mkdtemp(path.data()) == nullptr)
        fail(ExitCode::kCannotCreate, "no folder can be created to measure a run ({}), {}, name another bench.folder",
             std::strerror(errno), printable(inside));
    });
    path_ = broadcast_text(world, path);
  }
  ~SharedFolder() {
    std::error_code ignored;
    if (owner_) fs::remove_all(path_, ignored);
  }
  SharedFolder(const SharedFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  bool owner_;
  std::string path_;
};

// Redirects $CARILLON_CACHE during this object's life, so that a measurement's tokens are not cached with users' data.
class ScopedCache {
 public:
  explicit ScopedCache(const std::string& folder) {
    if (const char* before = ::getenv(kName)) before_ = before;
    ::setenv(kName, folder.c_str(), 1);
  }
  ~ScopedCache() { before_ ? ::setenv(kName, before_->c_str(), 1) : ::unsetenv(kName); }
  ScopedCache(const ScopedCache&) = delete;

 private:
  static constexpr const char* kName = "CARILLON_CACHE";
  std::optional<std::string> before_;
};

// Writes the smallest possible network, on a ring of all ranks.
void write_run(const std::string& folder, int ranks) {
  const int tokens = 16 * ranks;
  std::string sequence;
  for (int i = 0; i < tokens; ++i) sequence += fmt::format("{}{}", i == 0 ? "" : ",", i % 32);
  OutputFile data(folder + "/tokens.jsonl");
  for (int i = 0; i < 2; ++i) data.write(fmt::format("{{\"tokens\": [{}]}}\n", sequence));
  data.commit();
  OutputFile config(folder + "/run.yaml");
  config.write(fmt::format(
      "model: {{vocab_size: 32, hidden_size: 64, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 1,\n"
      "  num_key_value_heads: 1, head_dim: 64, max_position_embeddings: {0}}}\n"
      "data: {{train: [{{path: {2}/tokens.jsonl}}], sequence_length: {0}}}\n"
      "train: {{max_steps: 2, micro_batch_size: 1}}\n"
      "parallel: {{context: {1}}}\n"
      "output: {2}/run\n",
      tokens, ranks, folder));
  config.commit();
}

}  // namespace

int64_t bench_libraries(Communicator& world, const RuntimeSection& runtime, const std::string& folder) {
  const SharedFolder place(world, folder);
  const ScopedCache cache(place.path());
  agree(world, [&] {
    if (world.rank() == 0) write_run(place.path(), world.size());
  });
  RunConfig config = load_run_config(place.path() + "/run.yaml", {});
  config.runtime = runtime;
  Trainer trainer(world.split(0, world.rank(), "world"), std::move(config), true);
  trainer.run();
  // Measured while the run's groups exist: their device memory is released with them.
  Backend& backend = trainer.backend();
  return world.max(backend.unified() ? resident_bytes() : memory_used_by_others(backend.memory()));
}

int64_t memory_used_by_others(const DeviceMemory& memory) { return memory.total - memory.free - memory.allocated; }

}  // namespace carillon
