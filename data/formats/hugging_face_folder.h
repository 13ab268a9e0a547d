// A folder as Hugging Face's libraries write it: config.json and weights in one safetensors file or in several with an
// index. Where both are there the one file counts, as in transformers. Tensors go by our names (tensor_names.h). What
// config.json means is not known here (model/config.h).
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
  // Errors: 66 without config.json or weights, or without a file that the index names; 65 for a damaged index or file,
  // naming it.
  explicit HuggingFaceFolder(const std::string& path);

  struct StoredTensor {
    StoredType type = StoredType::kFloat32;
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;  // mapped, packed
    std::string path;                 // of the file it is in
  };

  const std::string& path() const { return path_; }
  // Corrected where the weights contradict it (tied_head.h).
  const std::string& config_json() const { return config_; }
  // What a person should hear about the folder, a line each.
  const std::vector<std::string>& notices() const { return notices_; }
  // Of floating-point tensors; buffers of integers and the like are named in a notice.
  std::vector<std::string> tensor_names() const;
  // Error 65 for a type that is no plain floating-point number (quantised weights), naming it.
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

// The tensor `name` of a file. Error 65 for a type that is no plain floating-point number, naming it.
HuggingFaceFolder::StoredTensor stored_tensor(const SafetensorsFile& file, const std::string& name,
                                              const SafetensorsFile::Entry& entry);

// The rectangle's elements, packed, as stored.
void copy_rectangle(const HuggingFaceFolder::StoredTensor& tensor, const Rectangle& rectangle,
                    std::vector<char>& bytes);

// The files of a folder that go with a model beside weights and config.json (tokenizer, chat template, generation
// settings): name -> bytes. `path` may be one tokenizer.json or tokenizer.model too: then it and what lies beside it.
std::map<std::string, std::string> tokenizer_files_at(const std::string& path);
// Their names; one lies in a subfolder, as transformers has it.
inline constexpr const char* kToolTemplate = "additional_chat_templates/tool_use.jinja";
const std::vector<std::string>& tokenizer_file_names();
// Writes them into a folder that is there. Errors 73 and 74.
void write_tokenizer_files(const std::string& folder, const std::map<std::string, std::string>& files);

// Error 65 for a file that is a model of another kind (GGUF, one safetensors file, a PyTorch archive), saying what to
// give instead; returns for others.
void refuse_foreign_model_file(const std::string& path);

}  // namespace carillon
