// Output made from the declared keys: resolved YAML and JSON, help for a terminal, tables for the README.
#include <algorithm>

#include "launch/config/schema.h"
#include "launch/config/values.h"
#include "runtime/error.h"
#include "runtime/text.h"

namespace carillon {
namespace {

// Returns a value as YAML on one line, in flow style, which includes JSON; simple texts are not quoted.
std::string yaml_value(const Json& value) {
  if (value.is_null()) return "~";
  if (value.is_number_float()) return format_number(value.get<double>());
  if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    const bool plain =
        !text.empty() && std::isalpha(static_cast<unsigned char>(text[0])) &&
        std::all_of(text.begin(), text.end(),
                    [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-'; }) &&
        canonical(text) != "null";
    return plain || parse_duration(text) ? text : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }
  std::string text;
  if (value.is_array()) {
    for (const Json& item : value) text += (text.empty() ? "" : ", ") + yaml_value(item);
    return "[" + text + "]";
  }
  if (value.is_object()) {
    for (const auto& [key, item] : value.items())
      text += (text.empty() ? "" : ", ") + yaml_value(key) + ": " + yaml_value(item);
    return "{" + text + "}";
  }
  return value.dump();
}

// Wraps `text` at blanks into lines of at most `width` bytes.
std::vector<std::string> wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines{""};
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    begin = end + 1;
  }
  return lines;
}

// Escapes the bars, which would end a table's cell.
std::string for_table(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

Json Schema::json() const {
  Json root = Json::object();
  for (const Key& key : keys_) {
    const std::optional<Json> value = key.get();
    if (!value) continue;
    Json* place = &root;
    std::string_view rest = key.name;
    for (size_t dot; (dot = rest.find('.')) != std::string_view::npos; rest.remove_prefix(dot + 1)) {
      place = &(*place)[std::string(rest.substr(0, dot))];
    }
    (*place)[std::string(rest)] = *value;
  }
  return root;
}

std::string Schema::yaml() const {
  std::string text;
  const Json root = json();
  for (const auto& [name, value] : root.items()) {
    const bool section = value.is_object() && find(name) == nullptr;
    if (!section) {
      text += name + ": " + yaml_value(value) + "\n";
      continue;
    }
    text += name + ":\n";
    for (const auto& [leaf, item] : value.items()) text += "  " + leaf + ": " + yaml_value(item) + "\n";
  }
  return text;
}

std::vector<std::string> Schema::changes_since(const Json& saved, const std::string& where) const {
  std::vector<std::string> warnings;
  const Json now = json();
  for (const Key& key : keys_) {
    if (key.on_resume == OnResume::kFree) continue;
    std::string pointer = "/" + key.name;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    const Json::json_pointer place(pointer);
    const Json before = saved.contains(place) ? saved.at(place) : Json();
    const Json after = now.contains(place) ? now.at(place) : Json();
    if (before == after) continue;
    // A run from before the key existed used what is now its default.
    if (before.is_null() && yaml_value(after) == key.default_text) continue;
    const std::string change = fmt::format("{}: {} -> {}", key.name, yaml_value(before), yaml_value(after));
    if (key.on_resume == OnResume::kRefused) {
      fail(ExitCode::kUsage, "the run to resume has another {}, {}, give the old value back or another output folder",
           change, printable(where));
    }
    warnings.push_back(change);
  }
  return warnings;
}

std::string Schema::help() const {
  std::string text;
  for (const auto& [section, title] : sections_) {
    text += fmt::format("\n{}{}\n", section.empty() ? "" : section + ": ", title);
    for (const Key& key : keys_) {
      if (section_of(key.name) != section) continue;
      text += fmt::format("  {}  ({}; default: {})\n", key.name, key.type_with_bounds(), key.default_text);
      for (const std::string& line : wrap(key.help, 100)) text += "      " + line + "\n";
    }
  }
  return text;
}

std::string Schema::markdown() const {
  std::string text;
  for (const auto& [section, title] : sections_) {
    text += fmt::format("\n### {}\n{}\n\n| key | takes | default | meaning and cost |\n|---|---|---|---|\n",
                        section.empty() ? "top level" : "`" + section + "`", title);
    for (const Key& key : keys_) {
      if (section_of(key.name) != section) continue;
      text += fmt::format("| `{}` | {} | {} | {} |\n", key.name, for_table(key.type_with_bounds()),
                          for_table(key.default_text), for_table(key.help));
    }
  }
  return text;
}

}  // namespace carillon
