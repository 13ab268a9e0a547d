#include "runtime/json_fields.h"

#include <cmath>

#include "runtime/text.h"

namespace carillon {
namespace {

// The value as a message shows it, cut to 80 bytes because a value may be as long as a model's vocabulary.
std::string shown(const Json& value) {
  constexpr size_t kMost = 80;
  std::string text = printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
  if (text.size() <= kMost) return text;
  size_t end = kMost;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // do not cut inside a character
  return text.substr(0, end) + "…";
}

template <class T>
std::string range(const char* what, T least, T most, bool from, bool to) {
  return std::string("give ") + what + (from ? fmt::format(" from {}", least) : "") +
         (to ? fmt::format(" up to {}", most) : "");
}

std::string integer_range(const char* what, int64_t least, int64_t most) {
  return range(what, least, most, least != JsonFields::kLeast, most != JsonFields::kMost);
}

}  // namespace

JsonFields::JsonFields(const Json& json, Source source, std::string path)
    : json_(json), source_(std::move(source)), path_(std::move(path)) {
  if (json_.is_object()) return;
  const std::string name = path_.empty() ? "the file" : path_.substr(0, path_.size() - 1);
  fail(source_.code, "{} is not a JSON object, in {}, give keys and values{}{}", printable(name),
       printable(source_.place), source_.remedy.empty() ? "" : "; ", source_.remedy);
}

void JsonFields::refuse(const std::string& key, const std::string& wanted) const {
  fail(source_.code, "{} is {}, in {}, {}{}{}", printable(path_ + key),
       json_.contains(key) ? shown(json_.at(key)) : "missing", printable(source_.place), wanted,
       source_.remedy.empty() ? "" : "; ", source_.remedy);
}

const Json& JsonFields::at(const std::string& key) const {
  if (!has(key)) refuse(key, "give it");
  return json_.at(key);
}

int64_t JsonFields::integer(const std::string& key, int64_t least, int64_t most) const {
  const std::optional<int64_t> value = has(key) ? integer_of(json_.at(key)) : std::nullopt;
  if (!value || *value < least || *value > most) refuse(key, integer_range("an integer", least, most));
  return *value;
}

double JsonFields::number(const std::string& key, double least, double most) const {
  const double value = has(key) && json_.at(key).is_number() ? json_.at(key).get<double>() : NAN;
  if (!std::isfinite(value) || value < least || value > most)
    refuse(key, range("a number", least, most, least != -kInfinity, most != kInfinity));
  return value;
}

bool JsonFields::boolean(const std::string& key) const {
  if (!has(key) || !json_.at(key).is_boolean()) refuse(key, "give true or false");
  return json_.at(key).get<bool>();
}

std::string JsonFields::text(const std::string& key) const {
  if (!has(key) || !json_.at(key).is_string()) refuse(key, "give a text");
  return json_.at(key).get<std::string>();
}

std::vector<int64_t> JsonFields::integers(const std::string& key, int64_t least, int64_t most) const {
  std::vector<int64_t> values;
  for (const Json& item : list_at(key)) {
    const std::optional<int64_t> value = integer_of(item);
    if (!value || *value < least || *value > most) refuse(key, integer_range("a list of integers", least, most));
    values.push_back(*value);
  }
  return values;
}

JsonFields JsonFields::object(const std::string& key) const {
  if (!has(key) || !json_.at(key).is_object()) refuse(key, "give keys and values");
  return JsonFields(json_.at(key), source_, path_ + key + ".");
}

const Json& JsonFields::list_at(const std::string& key) const {
  if (!has(key) || !json_.at(key).is_array()) refuse(key, "give a list");
  return json_.at(key);
}

}  // namespace carillon
