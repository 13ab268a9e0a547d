// Where weights come from: a Carillon model file, a checkpoint folder, a run's folder (its newest whole checkpoint) or
// a Hugging Face folder. One face for all four.
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

// Of a source that is, or has, an adapter (adapted_model.h).
struct AdapterInfo {
  std::string config;     // PEFT's adapter_config.json
  std::string base;       // where its base model was; may be empty
  std::string base_hash;  // content_hash of that; empty: not known
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // `path` must be resolved. An adapter comes with the base that it names. Errors: 66 not there, 65 damaged or of no
  // known kind.
  static std::unique_ptr<ModelSource> open(const std::string& path);
  // The adapter at `path` (resolved) without its base: its own tensors, and no config.json unless a run's. Error 64
  // when it is none.
  static std::unique_ptr<ModelSource> open_adapter(const std::string& path);
  // Of an adapter, and of its base; nothing, null for a model.
  virtual std::optional<AdapterInfo> adapter() const { return std::nullopt; }
  virtual const ModelSource* base() const { return nullptr; }

  virtual const std::string& path() const = 0;
  // Hugging Face's config.json, as text; of a checkpoint with the run's own rope in it.
  virtual std::string config_json() const = 0;
  // What a person should hear about it, a line each: what was left out, what contradicts what.
  virtual const std::vector<std::string>& notices() const = 0;
  // All tensors, by Hugging Face's names.
  virtual std::vector<std::string> tensor_names() const = 0;
  // Fills each shard, whose name is "model/NAME", from its rectangle, converted to the shard's type. Error 65 naming a
  // tensor that is missing, of another shape, quantised or not finite; 65 naming all the missing ones at once.
  virtual void read(std::vector<NamedShard>& shards) const = 0;
  // The same refusals without reading, of the tensors a model has: what `import` and `export` copy, `score` can load.
  void require(const std::vector<TensorShape>& tensors) const;
  // One tensor as it is stored: for copying without conversion; nothing when there is none. Error 65 as above.
  virtual std::optional<Hdf5File::Dataset> find(const std::string& name) const = 0;
  Hdf5File::Dataset stored(const std::string& name) const;  // of tensor_names()
  // Its bytes; error 65 when they are not finite.
  virtual void read_stored(const std::string& name, std::vector<char>& bytes) const = 0;
  // The contents of tokenizer.json and the like, by file name; empty when there are none.
  virtual std::map<std::string, std::string> tokenizer_files() const = 0;
  // The tokenizer that goes with it; null when there is none. Of a run: its own copy (RUN/tokenizer), else the one its
  // configuration names, else its base model's; error 65 when the bases name one another in a ring.
  virtual std::unique_ptr<Tokenizer> tokenizer() const = 0;
};

// Refuses as ModelSource::require does, of tensors that `find` knows.
void require_tensors(const std::vector<TensorShape>& tensors,
                     const std::function<std::optional<std::vector<int64_t>>(const std::string& name)>& find,
                     const std::string& path);

// Memory for a tokenizer's files that lie in another file, as files in a folder of their own: made, read, removed.
std::unique_ptr<Tokenizer> tokenizer_of_files(const std::map<std::string, std::string>& files,
                                              const std::string& where);

// What `model=` means: a run's folder becomes the path of its newest checkpoint that verifies (damaged ones are named
// through `notice`), a checkpoint is verified, other paths stay. One process alone reads everything: call it on one
// rank.
std::string resolve_model_path(const std::string& path, const std::function<void(const std::string&)>& notice);

}  // namespace carillon
