#include "data/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "data/tokenizer/unicode.h"
#include "runtime/error.h"
#include "runtime/parse_json.h"

namespace carillon {
namespace {

using SortedJson = nlohmann::json;  // a header may name a million tensors

constexpr int64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr size_t kLargestRank = 8;

const std::map<std::string, int64_t>& bits_by_dtype() {
  static const std::map<std::string, int64_t> bits = {
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
      {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
      {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}};
  return bits;
}

int64_t unsigned_of(const SortedJson& value, const std::string& name, const std::string& path) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > uint64_t{INT64_MAX})
    fail(ExitCode::kBadInput, "tensor {} has {} where a size belongs, {}, the file is damaged", name, value.dump(),
         path);
  return value.get<int64_t>();
}

SafetensorsFile::Entry read_entry(const std::string& name, const SortedJson& json, const std::string& path) {
  const auto bad = [&](const char* what) {
    fail(ExitCode::kBadInput, "tensor {}: {}, {}, the file is damaged", name, what, path);
  };
  SafetensorsFile::Entry entry;
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets"))
    bad("dtype, shape or data_offsets is missing");
  if (!json["dtype"].is_string() || !bits_by_dtype().contains(json["dtype"].get<std::string>()))
    bad("its dtype is unknown");
  entry.dtype = json["dtype"].get<std::string>();
  if (!json["shape"].is_array() || json["shape"].size() > kLargestRank)
    bad("its shape is not a list of at most 8 sizes");
  if (!json["data_offsets"].is_array() || json["data_offsets"].size() != 2) bad("data_offsets are not two numbers");
  int64_t bits = bits_by_dtype().at(entry.dtype);
  for (const SortedJson& size : json["shape"]) {
    entry.shape.push_back(unsigned_of(size, name, path));
    if (__builtin_mul_overflow(bits, entry.shape.back(), &bits)) bad("its shape overflows");
  }
  entry.begin = unsigned_of(json["data_offsets"][0], name, path);
  const int64_t end = unsigned_of(json["data_offsets"][1], name, path);
  if (end < entry.begin) bad("it ends before it begins");
  entry.bytes = end - entry.begin;
  if (bits % 8 != 0 || entry.bytes != bits / 8) bad("its size is not its shape times its type");
  return entry;
}

// Checks that all values are strings.
void check_metadata(const SortedJson& metadata, const std::string& path) {
  bool good = metadata.is_object();
  for (const auto& item : metadata.items()) good = good && item.value().is_string();
  if (!good) fail(ExitCode::kBadInput, "__metadata__ is not a list of texts by name, {}, the file is damaged", path);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(path) {
  uint64_t header_bytes = 0;
  if (file_.size() < 8) fail(ExitCode::kBadInput, "is too short for a header, {}, the file is cut off", path);
  std::memcpy(&header_bytes, file_.bytes().data(), 8);
  if (header_bytes > uint64_t{kLargestHeader})
    fail(ExitCode::kBadInput, "the header would be {} bytes, {}, this is not a safetensors file", header_bytes, path);
  const int64_t data_begin = 8 + static_cast<int64_t>(header_bytes);
  if (data_begin > file_.size()) fail(ExitCode::kBadInput, "the header is cut off, {}, fetch the file again", path);
  const std::string_view text(reinterpret_cast<const char*>(file_.bytes().data()) + 8, header_bytes);
  if (text.empty() || text[0] != '{' || first_invalid_utf8(text) != std::string_view::npos)
    fail(ExitCode::kBadInput, "the header is not a JSON object in UTF-8, {}, this is not a safetensors file", path);
  // The nesting depth of a valid header is 3.
  const SortedJson header = parse_json<SortedJson>(text, path + " (header)", ExitCode::kBadInput,
                                                   {.depth = 8, .bytes = kLargestHeader, .unique_keys = true});
  if (!header.is_object()) fail(ExitCode::kBadInput, "the header is not a JSON object, {}, the file is damaged", path);
  std::vector<std::pair<std::string, Entry>> sorted;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      check_metadata(value, path);
      continue;
    }
    sorted.emplace_back(name, read_entry(name, value, path));
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.begin, a.second.bytes) < std::pair(b.second.begin, b.second.bytes);
  });
  int64_t next = 0;
  for (auto& [name, entry] : sorted) {
    if (entry.begin != next)
      fail(ExitCode::kBadInput, "tensor {} begins at {}, not at {}: a hole or an overlap, {}, the file is damaged",
           name, entry.begin, next, path);
    if (entry.bytes > file_.size() - data_begin - next)
      fail(ExitCode::kBadInput, "holds {} bytes, its header says more at tensor {}, {}, fetch the file again",
           file_.size(), name, path);
    next += entry.bytes;
    entry.begin += data_begin;
    entries_.emplace(name, entry);
  }
  if (data_begin + next != file_.size())
    fail(ExitCode::kBadInput, "holds {} bytes, its header says {}, {}, fetch the file again", file_.size(),
         data_begin + next, path);
}

}  // namespace carillon
