// Reads members of a JSON object by name and type. All errors have the form "KEY is VALUE, in PLACE, WHAT TO GIVE",
// with the key's path in the file: products.float32[0].rows. A number counts as an integer only if it is written as one
// and fits into 64 bits; other numbers must be finite. A null counts as an absent key.
//
//   const JsonFields fields(json, {"config.json", "take another model"});
//   const int64_t width = fields.integer("hidden_size", 1);
//   const double epsilon = fields.number_or("rms_norm_eps", 1e-6, 0);
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/error.h"

namespace carillon {

using Json = nlohmann::ordered_json;

// The value if it is an integer that fits into int64, else nothing; for any of nlohmann's JSON types.
template <class AnyJson>
std::optional<int64_t> integer_of(const AnyJson& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (value.is_number_unsigned() && value.template get<uint64_t>() > uint64_t{INT64_MAX}) return std::nullopt;
  return value.template get<int64_t>();
}

class JsonFields {
 public:
  // Where the object comes from, and a remedy to append to messages ("measure again"; may be empty).
  struct Source {
    std::string place;
    std::string remedy;
    ExitCode code = ExitCode::kBadInput;
  };
  static constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  // `json` must outlive this; throws if it is not an object. `path` is the object's path in its file, "" or
  // "layers[3].".
  JsonFields(const Json& json, Source source, std::string path = "");

  bool has(const std::string& key) const { return json_.contains(key) && !json_.at(key).is_null(); }
  const Json& json() const { return json_; }
  const Json& at(const std::string& key) const;  // throws if the key is absent or null

  // Required members: throw if the key is absent, has another type or is outside [least, most].
  int64_t integer(const std::string& key, int64_t least = kLeast, int64_t most = kMost) const;
  double number(const std::string& key, double least = -kInfinity, double most = kInfinity) const;
  bool boolean(const std::string& key) const;
  std::string text(const std::string& key) const;
  std::vector<int64_t> integers(const std::string& key, int64_t least = kLeast, int64_t most = kMost) const;
  JsonFields object(const std::string& key) const;
  // Calls `read(const JsonFields&)` for each object of a list and returns the results.
  template <class Read>
  auto list(const std::string& key, Read read) const {
    std::vector<std::invoke_result_t<Read, const JsonFields&>> result;
    const Json& items = list_at(key);
    for (size_t i = 0; i < items.size(); ++i)
      result.push_back(read(JsonFields(items[i], source_, fmt::format("{}{}[{}].", path_, key, i))));
    return result;
  }

  // Optional members: return `otherwise` if the key is absent or null.
  int64_t integer_or(const std::string& key, int64_t otherwise, int64_t least = kLeast, int64_t most = kMost) const {
    return has(key) ? integer(key, least, most) : otherwise;
  }
  double number_or(const std::string& key, double otherwise, double least = -kInfinity, double most = kInfinity) const {
    return has(key) ? number(key, least, most) : otherwise;
  }
  bool boolean_or(const std::string& key, bool otherwise) const { return has(key) ? boolean(key) : otherwise; }
  std::string text_or(const std::string& key, std::string otherwise) const {
    return has(key) ? text(key) : std::move(otherwise);
  }

  // Throws "KEY is VALUE, in PLACE, WANTED; REMEDY".
  [[noreturn]] void refuse(const std::string& key, const std::string& wanted) const;

 private:
  const Json& list_at(const std::string& key) const;

  const Json& json_;
  Source source_;
  std::string path_;
};

}  // namespace carillon
