#include "launch/config/schema.h"

#include <algorithm>
#include <cmath>

#include "launch/config/values.h"
#include "runtime/check.h"
#include "runtime/error.h"
#include "runtime/foreign_error.h"
#include "runtime/text.h"

namespace carillon {
namespace {

std::string leaf_of(std::string_view name) { return std::string(name.substr(name.rfind('.') + 1)); }

}  // namespace

std::string section_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? "" : std::string(name.substr(0, dot));
}

// --- one key ---------------------------------------------------------------------------------------------------------

std::string Key::type_with_bounds() const {
  std::string text = type;
  if (minimum) text += fmt::format(" ≥ {}", format_number(*minimum));
  if (exclusive_minimum) text += fmt::format(" > {}", format_number(*exclusive_minimum));
  const bool both = minimum || exclusive_minimum;
  if (maximum) text += fmt::format("{} ≤ {}", both ? "," : "", format_number(*maximum));
  if (exclusive_maximum) text += fmt::format("{} < {}", both ? "," : "", format_number(*exclusive_maximum));
  return text;
}

void Key::refuse(const YamlNode& node, const std::string& wanted) const {
  fail(ExitCode::kUsage, "{} cannot be {}, {}, it takes {}", name, node.describe(), node.where, wanted);
}

void Key::check_bounds(double value, const YamlNode& node) const {
  const bool within = value >= minimum.value_or(value) && value <= maximum.value_or(value) &&
                      !(exclusive_minimum && value <= *exclusive_minimum) &&
                      !(exclusive_maximum && value >= *exclusive_maximum);
  if (!within) refuse(node, type_with_bounds());
}

namespace detail {
namespace {

// Returns an unquoted scalar's text, or nullptr.
const std::string* plain(const YamlNode& node) {
  return node.kind == YamlNode::Kind::kScalar && !node.quoted ? &node.text : nullptr;
}

}  // namespace

int64_t read_integer(const Key& key, const YamlNode& node) {
  const std::string* text = plain(node);
  const std::optional<int64_t> value = text ? parse_integer(*text) : std::nullopt;
  if (!value) key.refuse(node, key.type_with_bounds() + " (digits, or 64k for 65536)");
  key.check_bounds(static_cast<double>(*value), node);
  return *value;
}

double read_number(const Key& key, const YamlNode& node) {
  const std::string* text = plain(node);
  const std::optional<double> value = text ? parse_number(*text) : std::nullopt;
  if (!value) key.refuse(node, key.type_with_bounds() + " (such as 0.1 or 2e-5)");
  key.check_bounds(*value, node);
  return *value;
}

double read_duration(const Key& key, const YamlNode& node) {
  const std::string* text = plain(node);
  const std::optional<double> value = text ? parse_duration(*text) : std::nullopt;
  if (!value) key.refuse(node, "a duration with its unit (such as 30m, 90s or 1h30m)");
  key.check_bounds(*value, node);
  return *value;
}

std::string read_text(const Key& key, const YamlNode& node) {
  if (node.kind != YamlNode::Kind::kScalar || node.text.empty()) key.refuse(node, "a text that is not empty");
  return node.text;
}

std::string read_word(const Key& key, const YamlNode& node, const std::vector<std::string>& words) {
  if (node.kind != YamlNode::Kind::kScalar) key.refuse(node, join(words, " | "));
  const bool quoted_boolean = node.quoted && (node.text == "true" || node.text == "false");
  if (quoted_boolean || std::find(words.begin(), words.end(), node.text) == words.end()) {
    key.refuse(node, fmt::format("{}; nearest is {}", join(words, " | "), nearest(node.text, words)));
  }
  return node.text;
}

Json duration_json(double seconds) { return Json(format_duration(seconds)); }

Json word_json(const std::string& word) {
  const std::optional<bool> boolean = parse_boolean(word);
  return boolean ? Json(*boolean) : Json(word);
}

Json free_json(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return Json();
    case YamlNode::Kind::kScalar:
      if (node.quoted) return node.text;
      if (const auto boolean = parse_boolean(node.text)) return *boolean;
      if (const auto integer = parse_integer(node.text)) return *integer;
      if (const auto number = parse_number(node.text)) return *number;
      return node.text;
    case YamlNode::Kind::kSequence: {
      Json list = Json::array();
      for (const YamlNode& item : node.items) list.push_back(free_json(item));
      return list;
    }
    case YamlNode::Kind::kMapping: {
      Json object = Json::object();
      for (size_t i = 0; i < node.keys.size(); ++i) object[node.keys[i].text] = free_json(node.items[i]);
      return object;
    }
  }
  return Json();
}

std::string default_of(const std::optional<Json>& value) {
  if (!value) return "not set";
  if (value->is_string()) return value->get<std::string>();
  if (value->is_number_integer()) return format_size(value->get<int64_t>());
  if (value->is_number_float()) return format_number(value->get<double>());
  return value->dump();
}

}  // namespace detail

// --- declaring -------------------------------------------------------------------------------------------------------

Key& Schema::add(std::string name, std::string type, std::string help) {
  CHECK(find(name) == nullptr, "a key is declared once", name);
  Key& key = keys_.emplace_back();
  key.name = std::move(name);
  key.type = std::move(type);
  key.help = std::move(help);
  return key;
}

Key& Schema::integer_or(std::string name, std::optional<int64_t>& target, const std::string& word, std::string help) {
  Key& key = add(std::move(name), word + " | integer", std::move(help));
  key.set = [&key, &target, word](const YamlNode& node) {
    target = node.text == word ? std::nullopt : std::optional(detail::read_integer(key, node));
  };
  key.get = [&target, word] { return target ? Json(*target) : Json(word); };
  key.default_text = detail::default_of(key.get());
  return key;
}

Key& Schema::custom(std::string name, std::string type, std::string help, std::function<void(const YamlNode&)> set,
                    std::function<std::optional<Json>()> get) {
  Key& key = add(std::move(name), std::move(type), std::move(help));
  key.set = std::move(set);
  key.get = std::move(get);
  key.default_text = detail::default_of(key.get());
  return key;
}

// --- setting ---------------------------------------------------------------------------------------------------------

const Key* Schema::find(std::string_view name) const {
  const auto at = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name == name; });
  return at == keys_.end() ? nullptr : &*at;
}

bool Schema::given(std::string_view name) const {
  const Key* key = find(name);
  return key != nullptr && !key->given_at.empty();
}

std::string Schema::where(std::string_view name) const {
  const Key* key = find(name);
  return key != nullptr && !key->given_at.empty() ? key->given_at : "the configuration";
}

bool Schema::is_section(const std::string& name) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name.starts_with(name + "."); });
}

void Schema::apply_file(const std::string& path) {
  const WorkingOn file(path);
  source_ = printable(path);
  apply(parse_yaml_file(path));
}

void Schema::apply(const YamlNode& document) {
  if (document.kind == YamlNode::Kind::kNull) return;
  if (document.kind != YamlNode::Kind::kMapping) {
    fail(ExitCode::kUsage, "the configuration is {}, {}, write NAME: VALUE lines", document.describe(), document.where);
  }
  apply_mapping(document, "");
}

void Schema::apply_mapping(const YamlNode& mapping, const std::string& prefix) {
  for (size_t i = 0; i < mapping.keys.size(); ++i) {
    const std::string& leaf = mapping.keys[i].text;
    const std::string name = prefix + leaf;
    const YamlNode& value = mapping.items[i];
    if (leaf.find('.') != std::string::npos) {
      fail(ExitCode::kUsage, "dotted key '{}', {}, nest it in a file (dots are for the command line)", printable(name),
           mapping.keys[i].where);
    }
    if (const Key* key = find(name)) {
      set_key(const_cast<Key&>(*key), value);
    } else if (!is_section(name)) {
      unknown(name, mapping.keys[i].where);
    } else if (value.kind == YamlNode::Kind::kMapping) {
      apply_mapping(value, name + ".");
    } else if (value.kind != YamlNode::Kind::kNull) {  // `train:` with nothing below it is an empty section
      fail(ExitCode::kUsage, "{} is a section and cannot be {}, {}, put its keys below it", name, value.describe(),
           value.where);
    }
  }
}

void Schema::set_key(Key& key, const YamlNode& value) {
  key.set(value);
  key.given_at = value.where;
}

void Schema::apply_override(std::string_view argument) {
  const size_t equals = argument.find('=');
  const std::string name(argument.substr(0, equals));
  const std::string place = fmt::format("argument '{}'", printable(argument.substr(0, 80)));
  const WorkingOn here(place);
  if (equals == std::string_view::npos || name.empty()) {
    fail(ExitCode::kUsage, "'{}' is neither a file nor KEY=VALUE, {}, write key=value", printable(argument), place);
  }
  const std::string_view text = argument.substr(equals + 1);
  const Key* key = find(name);
  if (key == nullptr && !is_section(name)) {
    if (apply_nested(name, text, place)) return;
    unknown(name, place);
  }

  YamlNode value;
  if (key != nullptr && key->is_verbatim) {
    value.kind = YamlNode::Kind::kScalar;
    value.quoted = true;
    value.text = std::string(text);
    value.where = place;
  } else {
    // To YAML a directive or a comment, and no value: null, without a word.
    const size_t begin = text.find_first_not_of(" \t");
    if (begin != std::string_view::npos && (text[begin] == '%' || text[begin] == '#'))
      fail(ExitCode::kUsage, "a value begins with {}, {}, put it into quotes of its own: {}='\"…\"'",
           std::string(1, text[begin]), place, printable(name));
    const bool is_text = key != nullptr && key->type == "text";
    const auto refuse_text = [&](const std::string& why) {
      fail(ExitCode::kUsage, "to YAML this is {}, {}, put the text into quotes of its own: {}='\"…\"'", why, place,
           name);
    };
    try {
      value = parse_yaml(text, place);
    } catch (const Error&) {
      if (is_text) refuse_text("no plain text");
      throw;
    }
    if (is_text && (value.kind == YamlNode::Kind::kMapping || value.kind == YamlNode::Kind::kSequence))
      refuse_text(value.describe());
    if (value.where.empty() || value.where == place + ":1:1") value.where = place;
  }
  if (key != nullptr) {
    set_key(const_cast<Key&>(*key), value);
  } else if (value.kind == YamlNode::Kind::kMapping) {
    apply_mapping(value, name + ".");
  } else {
    fail(ExitCode::kUsage,
         "{} is a section and cannot be {}, {}, name a key of it (such as {}) or write {}={{key: "
         "value}}",
         name, value.describe(), place,
         std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name.starts_with(name + "."); })->name,
         name);
  }
}

bool Schema::apply_nested(const std::string& name, std::string_view text, const std::string& place) {
  for (size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
    const Key* key = find(std::string_view(name).substr(0, dot));
    if (key == nullptr) continue;
    if (key->type != "mapping") return false;
    // As a JSON pointer, in which a name's own '~' and '/' are ~0 and ~1.
    std::string inner = "/";
    for (const char c : std::string_view(name).substr(dot + 1))
      inner += c == '.' ? "/" : c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
    Json all = key->get().value_or(Json::object());
    if (!all.is_object()) all = Json::object();
    all[Json::json_pointer(inner)] = detail::free_json(parse_yaml(text, place));
    YamlNode whole = parse_yaml(all.dump(), place);
    whole.where = place;
    set_key(const_cast<Key&>(*key), whole);
    return true;
  }
  return false;
}

void Schema::unknown(const std::string& name, const std::string& where) const {
  const std::string wanted = canonical(leaf_of(name));
  const std::string shown = printable(std::string_view(name).substr(0, 128));
  if (name == "slurm" || name.starts_with("slurm."))
    fail(ExitCode::kUsage, "unknown key '{}', {}, give slurm.* to carillon slurm, on its command line", shown, where);
  // 1. A name that other programs use, or the right name in the wrong section.
  for (const Key& key : keys_) {
    const bool alias = std::any_of(key.alias_names.begin(), key.alias_names.end(),
                                   [&](const std::string& other) { return canonical(other) == wanted; });
    if (alias || leaf_of(key.name) == wanted) {
      fail(ExitCode::kUsage, "unknown key '{}', {}, here it is called {}", shown, where, key.name);
    }
  }
  // 2. A typing error: the nearest name within its section, or else of all names.
  std::vector<std::string> section_names;
  std::vector<std::string> all_names;
  for (const Key& key : keys_) {
    if (section_of(key.name) == section_of(name)) section_names.push_back(key.name);
    all_names.push_back(key.name);
    if (section_of(name).empty() && !section_of(key.name).empty()) section_names.push_back(section_of(key.name));
  }
  std::string guess = nearest(name, section_names);
  const std::string guess_anywhere = nearest(name, all_names);
  if (guess.empty() || edit_distance(guess_anywhere, name) < edit_distance(guess, name)) guess = guess_anywhere;
  fail(ExitCode::kUsage, "unknown key '{}', {}, did you mean {}?", shown, where, guess);
}

void Schema::finish(const std::string& command) const {
  for (const Key& key : keys_) {
    if (key.is_required && key.given_at.empty()) {
      fail(ExitCode::kUsage, "{} is missing, {}, add {}=VALUE ({})", key.name, command, key.name, key.help);
    }
  }
}

}  // namespace carillon
