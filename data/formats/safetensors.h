// The safetensors format: a JSON header with names, types, shapes and offsets, then the bytes. Read-only,
// memory-mapped; a hostile header is refused before anything is believed.
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
    int64_t begin = 0;  // of its bytes in the file
    int64_t bytes = 0;
  };

  // Errors: 66 not there; 65, naming file and tensor, for a file that is cut short or too long, a header that is no
  // JSON of the format's form, duplicate names, unknown types, holes, overlaps, and sizes that are not shape times
  // type.
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

// Writes one file: `list` in file order, `read` gives each tensor's bytes. Whole or not at all; metadata {"format":
// "pt"}.
struct SafetensorsItem {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};
void write_safetensors(const std::string& path, std::vector<SafetensorsItem> list,
                       const std::function<void(const std::string& name, std::vector<char>& bytes)>& read);

}  // namespace carillon
