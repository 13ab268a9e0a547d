// A folder as Hugging Face's libraries write it: config.json, and weights in one safetensors file or in several with an
// index. If both exist, the single file is used, as in transformers. Tensors have our names (tensor_names.h).
// config.json is interpreted elsewhere (model/config.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"
#include "data/files/posix_file.h"
#include "data/formats/safetensors.h"
#include "parallel/shard.h"

namespace carillon {

class HuggingFaceFolder {
 public:
  // Errors: 66 if config.json, the weights or a file named by the index is missing; 65 for a damaged index or file,
  // naming it.
  explicit HuggingFaceFolder(const std::string& path);

  struct StoredTensor {
    StoredType type = StoredType::kFloat32;
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;  // mapped, packed
    std::string path;                 // path of its file
  };

  const std::string& path() const { return path_; }
  // Corrected if the weights contradict it (tied_head.h).
  const std::string& config_json() const { return config_; }
  // Messages for the user about the folder, one per line.
  const std::vector<std::string>& notices() const { return notices_; }
  // Names of floating-point tensors; integer buffers and the like are mentioned in a notice.
  std::vector<std::string> tensor_names() const;
  // Error 65, naming the type, if it is not a plain floating-point type (quantised weights).
  std::optional<StoredTensor> find(const std::string& name) const;

 private:
  struct Place {
    const SafetensorsFile* file;
    const SafetensorsFile::Entry* entry;
  };
  using Places = std::map<std::string, Place>;
  Places open_single(const std::string& file);
  Places open_index(const std::string& index);
  const SafetensorsFile& open_file(const std::string& name);
  void note_others();
  void note_tied_head();

  std::string path_;
  std::string config_;
  std::vector<std::string> notices_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
  Places place_;  // by our names
};

// Returns the tensor `name` of a file. Error 65, naming the type, if it is not a plain floating-point type.
HuggingFaceFolder::StoredTensor stored_tensor(const SafetensorsFile& file, const std::string& name,
                                              const SafetensorsFile::Entry& entry);

// Copies the rectangle's elements, packed, in the stored type.
void copy_rectangle(const HuggingFaceFolder::StoredTensor& tensor, const Rectangle& rectangle,
                    std::vector<char>& bytes);

// Reads the files of a model's folder other than weights and config.json (tokenizer, chat template, generation
// settings): name -> bytes. `path` may also be a tokenizer.json or tokenizer.model; then it and the files next to it
// are read.
std::map<std::string, std::string> tokenizer_files_at(const std::string& path);
// The names of these files; one is in a subfolder, as in transformers.
inline constexpr const char* kToolTemplate = "additional_chat_templates/tool_use.jinja";
const std::vector<std::string>& tokenizer_file_names();
// Writes them into an existing folder. Errors 73 and 74.
void write_tokenizer_files(const std::string& folder, const std::map<std::string, std::string>& files);

// Throws error 65 for a file that is a model of another kind (GGUF, a single safetensors file, a PyTorch archive),
// saying what to give instead; returns for others.
void refuse_foreign_model_file(const std::string& path);

}  // namespace carillon
