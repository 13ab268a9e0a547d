// The safetensors format: a JSON header with names, types, shapes and offsets, followed by the bytes. Read-only and
// memory-mapped; the header is fully validated before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "data/files/mapped_file.h"

namespace carillon {

class SafetensorsFile {
 public:
  struct Entry {
    std::string dtype;  // as in the file: "BF16", "F32", …
    std::vector<int64_t> shape;
    int64_t begin = 0;  // offset of its bytes in the file
    int64_t bytes = 0;
  };

  // Errors: 66 if it does not exist; 65, naming file and tensor, for a file that is too short or too long, a header
  // that is not JSON of the required form, duplicate names, unknown types, holes, overlaps, and sizes that do not match
  // shape and type.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  std::span<const std::byte> bytes_of(const Entry& entry) const {
    return file_.bytes().subspan(static_cast<size_t>(entry.begin), static_cast<size_t>(entry.bytes));
  }

 private:
  MappedFile file_;
  std::map<std::string, Entry> entries_;
};

// Writes one file, completely or not at all, with metadata {"format": "pt"}. `list` may be in any order; the tensors
// are written by type and name. `read` returns each tensor's bytes.
struct SafetensorsItem {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};
void write_safetensors(const std::string& path, std::vector<SafetensorsItem> list,
                       const std::function<void(const std::string& name, std::vector<char>& bytes)>& read);

}  // namespace carillon
