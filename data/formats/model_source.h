// A common interface to the sources of weights: a Carillon model file, a checkpoint folder, a run's folder (its newest
// complete checkpoint) and a Hugging Face folder.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"
#include "data/tokenizer/tokenizer.h"
#include "parallel/shard.h"

namespace carillon {

struct TensorShape {
  std::string name;  // "model.norm.weight"
  std::vector<int64_t> shape;
};

// About a source that is or contains an adapter (adapted_model.h).
struct AdapterInfo {
  std::string config;     // PEFT's adapter_config.json
  std::string base;       // path of its base model when it was trained; may be empty
  std::string base_hash;  // content_hash of the base; empty: unknown
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // `path` must be resolved. An adapter is opened together with the base that it names. Errors: 66 if it does not
  // exist, 65 if it is damaged or of no known kind.
  static std::unique_ptr<ModelSource> open(const std::string& path);
  // Opens the adapter at `path` (resolved) without its base: its own tensors, and config.json only if it has one of its
  // own: a run's, or a PEFT folder's with another rotation than its base's.
  // Error 64 if it is not an adapter.
  static std::unique_ptr<ModelSource> open_adapter(const std::string& path);
  // The adapter's information and its base; nothing and null for a model.
  virtual std::optional<AdapterInfo> adapter() const { return std::nullopt; }
  virtual const ModelSource* base() const { return nullptr; }

  virtual const std::string& path() const = 0;
  // Hugging Face's config.json as text; for a checkpoint it includes the run's rope.
  virtual std::string config_json() const = 0;
  // Messages for the user, one per line: what was left out and what is contradictory.
  virtual const std::vector<std::string>& notices() const = 0;
  // All tensors, by Hugging Face's names.
  virtual std::vector<std::string> tensor_names() const = 0;
  // Fills each shard, named "model/NAME", with its rectangle, converted to the shard's type. Error 65 naming a tensor
  // that has another shape, is quantised or is not finite; 65 naming all missing tensors at once.
  virtual void read(std::vector<NamedShard>& shards) const = 0;
  // Makes the same checks without reading. What passes can be copied by `import` and `export` and loaded by `score`.
  void require(const std::vector<TensorShape>& tensors) const;
  // Describes one tensor as it is stored, for copying without conversion; nothing if there is none. Error 65 as above.
  virtual std::optional<Hdf5File::Dataset> find(const std::string& name) const = 0;
  Hdf5File::Dataset stored(const std::string& name) const;  // for names from tensor_names()
  // Reads its bytes; error 65 if they are not finite.
  virtual void read_stored(const std::string& name, std::vector<char>& bytes) const = 0;
  // The contents of tokenizer.json and similar files by name; empty if there are none.
  virtual std::map<std::string, std::string> tokenizer_files() const = 0;
  // The tokenizer that belongs to it, or null. For a run: its own copy (RUN/tokenizer), else the one that its
  // configuration names, else its base model's; error 65 if the bases form a cycle.
  virtual std::unique_ptr<Tokenizer> tokenizer() const = 0;
};

// The global shapes of shards that are named "model/NAME", under NAME.
std::vector<TensorShape> shapes_of(const std::vector<NamedShard>& shards);

// Makes the checks of ModelSource::require; `find` returns the shape of a tensor.
void require_tensors(const std::vector<TensorShape>& tensors,
                     const std::function<std::optional<std::vector<int64_t>>(const std::string& name)>& find,
                     const std::string& path);

// Opens a tokenizer whose files are stored inside another file: writes them to a temporary folder, reads them and
// removes the folder.
std::unique_ptr<Tokenizer> tokenizer_of_files(const std::map<std::string, std::string>& files,
                                              const std::string& where);

// Resolves the value of `model=`: a run's folder becomes the path of its newest checkpoint that verifies (damaged ones
// are reported through `notice`), a checkpoint is verified, other paths are unchanged. The calling process reads
// everything alone, so call it on one rank.
std::string resolve_model_path(const std::string& path, const std::function<void(const std::string&)>& notice);

}  // namespace carillon
