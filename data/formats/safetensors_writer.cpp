#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "data/files/output_file.h"
#include "data/formats/safetensors.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// The format's order of types: larger types come first, which keeps every tensor aligned.
int rank_of(const std::string& dtype) {
  constexpr const char* kOrder[] = {"BOOL", "U8",  "I8",  "I16", "U16", "F16", "BF16",
                                    "I32",  "U32", "F32", "F64", "I64", "U64"};
  for (size_t i = 0; i < std::size(kOrder); ++i)
    if (dtype == kOrder[i]) return static_cast<int>(i);
  throw InternalError("no such safetensors type: " + dtype);
}

}  // namespace

void write_safetensors(const std::string& path, std::vector<SafetensorsItem> list,
                       const std::function<void(const std::string&, std::vector<char>&)>& read) {
  std::sort(list.begin(), list.end(), [](const SafetensorsItem& a, const SafetensorsItem& b) {
    return std::pair(-rank_of(a.dtype), a.name) < std::pair(-rank_of(b.dtype), b.name);
  });
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t at = 0;
  for (const SafetensorsItem& item : list) {
    header[item.name] = {{"dtype", item.dtype}, {"shape", item.shape}, {"data_offsets", {at, at + item.bytes}}};
    at += item.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  std::string prefix(8, '\0');
  std::memcpy(prefix.data(), &length, 8);
  OutputFile file(path);
  file.write(prefix);
  file.write(text);
  std::vector<char> bytes;
  for (const SafetensorsItem& item : list) {
    read(item.name, bytes);
    CHECK(static_cast<int64_t>(bytes.size()) == item.bytes, "a tensor is of another size than announced", item.name);
    file.write({bytes.data(), bytes.size()});
  }
  file.commit();
}

}  // namespace carillon
