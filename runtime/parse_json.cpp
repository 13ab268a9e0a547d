#include "runtime/parse_json.h"

#include <algorithm>
#include <set>
#include <type_traits>
#include <vector>

#include "runtime/text.h"

namespace carillon {
namespace {

struct Extent {
  int depth = 0;
  int64_t keys = 0;  // of the object with the most keys
};

// Counts brackets and colons outside strings, before anything is parsed. For text that is not JSON the numbers mean
// nothing, but then the parser reports the fault. Stops once the depth exceeds `deepest`.
Extent extent_of(std::string_view text, int deepest) {
  Extent extent;
  std::vector<int64_t> keys{0};
  bool in_string = false;
  for (size_t i = 0; i < text.size() && extent.depth <= deepest; ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      keys.push_back(0);
      extent.depth = std::max(extent.depth, static_cast<int>(keys.size()) - 1);
    } else if ((c == ']' || c == '}') && keys.size() > 1) {
      keys.pop_back();
    } else if (c == ':') {
      extent.keys = std::max(extent.keys, ++keys.back());
    }
  }
  return extent;
}

// nlohmann's message without its prefix "[json.exception.parse_error.101] ", shortened to 200 bytes.
std::string reason_of(std::string text) {
  if (const size_t end = text.find("] "); text.starts_with("[json.exception") && end != std::string::npos)
    text.erase(0, end + 2);
  constexpr size_t kLongest = 200;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return printable(text);
}

}  // namespace

void check_json_limits(std::string_view text, const std::string& where, ExitCode code, const JsonLimits& limits) {
  if (static_cast<int64_t>(text.size()) > limits.bytes)
    fail(code, "is {} bytes of JSON, more than the {} that are read, {}, check that it is the right file", text.size(),
         limits.bytes, where);
  const Extent extent = extent_of(text, limits.depth);
  if (extent.depth > limits.depth)
    fail(code, "the JSON is nested more than {} deep, {}, the file is damaged", limits.depth, where);
  if (limits.keys > 0 && extent.keys > limits.keys)
    fail(code, "one object of the JSON has {} names, more than the {} that are read, {}, the file is damaged",
         extent.keys, limits.keys, where);
}

template <class ParsedJson>
ParsedJson parse_json(std::string_view text, const std::string& where, ExitCode code, const JsonLimits& limits) {
  JsonLimits checked = limits;
  if (!std::is_same_v<ParsedJson, Json>) checked.keys = 0;
  check_json_limits(text, where, code, checked);
  std::vector<std::set<std::string>> keys;
  std::string twice;
  const typename ParsedJson::parser_callback_t watch = [&](int, auto event, ParsedJson& value) {
    using Event = typename ParsedJson::parse_event_t;
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.template get<std::string>()).second)
      twice = value.template get<std::string>();
    return true;
  };
  ParsedJson json;
  try {
    json = limits.unique_keys ? ParsedJson::parse(text, watch) : ParsedJson::parse(text);
  } catch (const typename ParsedJson::exception& error) {
    fail(code, "is not valid JSON ({}), {}, fix it or fetch it again", reason_of(error.what()), where);
  }
  if (!twice.empty()) fail(code, "{} is there twice in the JSON, {}, the file is damaged", printable(twice), where);
  return json;
}

template nlohmann::json parse_json(std::string_view, const std::string&, ExitCode, const JsonLimits&);
template nlohmann::ordered_json parse_json(std::string_view, const std::string&, ExitCode, const JsonLimits&);

std::optional<Json> try_parse_json(std::string_view text, const JsonLimits& limits) {
  try {
    return parse_json(text, "", ExitCode::kBadInput, limits);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace carillon
