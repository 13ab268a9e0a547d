// A folder as Hugging Face's libraries write it: config.json and weights in one safetensors file or in several with an
// index. What config.json means is not known here (model/config.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/files/hdf5_file.h"
#include "data/formats/safetensors.h"
#include "parallel/shard.h"

namespace carillon {

class HuggingFaceFolder {
 public:
  // Errors: 66 without config.json or weights; 65 for a damaged index or file, naming it.
  explicit HuggingFaceFolder(const std::string& path);

  struct StoredTensor {
    StoredType type = StoredType::kFloat32;
    std::vector<int64_t> shape;
    const std::byte* data = nullptr;  // mapped, packed
    std::string path;                 // of the file it is in
  };

  const std::string& path() const { return path_; }
  const std::string& config_json() const { return config_; }
  std::vector<std::string> tensor_names() const;
  // Error 65 for a type that is no plain floating-point number (quantised weights), naming it.
  std::optional<StoredTensor> find(const std::string& name) const;

 private:
  void open_index(const std::string& index);

  std::string path_;
  std::string config_;
  std::map<std::string, std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*> place_;  // tensor -> its file
};

// The rectangle's elements, packed, as stored.
void copy_rectangle(const HuggingFaceFolder::StoredTensor& tensor, const Rectangle& rectangle,
                    std::vector<char>& bytes);

// The whole of a small text file. Errors 66 and 74.
std::string read_text_file(const std::string& path);

}  // namespace carillon
