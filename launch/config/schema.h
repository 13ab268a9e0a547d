// Declares configuration keys. A key is declared once, with dotted name, target (whose current value is the default),
// help and limits. Everything else is derived from the declaration: parsing with file:line:column in every message, the
// hint for an unknown key, `--help`, the resolved configuration as YAML and JSON, the tables of launch/README.md.
//
//   Schema schema;
//   schema.section("train", "How the weights move.");
//   schema.integer("train.max_steps", config.train.max_steps, "Updates to make …").at_least(1).aliases({"num_steps"});
//   schema.apply_file("run.yaml");
//   schema.apply_override("train.max_steps=64k");
//
// A Schema holds references to its targets, which must outlive it. A key set later replaces the whole earlier value.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "launch/config/yaml.h"

namespace carillon {

using Json = nlohmann::ordered_json;

enum class OnResume { kFree, kWarning, kRefused };

// A declared key. Its settings can be chained: schema.number(…).above(0).at_most(1).
class Key {
 public:
  Key& at_least(double bound) { return minimum = bound, *this; }
  Key& above(double bound) { return exclusive_minimum = bound, *this; }
  Key& at_most(double bound) { return maximum = bound, *this; }
  Key& below(double bound) { return exclusive_maximum = bound, *this; }
  // Names of the same setting in other programs, at any level; the hint for them names this key.
  Key& aliases(std::vector<std::string> names) { return alias_names = std::move(names), *this; }
  // Shown instead of the default: "the base model's", "required".
  Key& default_is(std::string text) { return default_text = std::move(text), *this; }
  Key& required() { return is_required = true, default_is("required"); }
  // The value is taken literally from the command line, never parsed as YAML.
  Key& verbatim() { return is_verbatim = true, *this; }
  // The effect of a difference from the saved configuration when a run resumes: none, a warning (the default), or error
  // 64.
  Key& may_change() { return on_resume = OnResume::kFree, *this; }
  Key& must_not_change() { return on_resume = OnResume::kRefused, *this; }

  std::string type_with_bounds() const;
  void check_bounds(double value, const YamlNode& node) const;
  [[noreturn]] void refuse(const YamlNode& node, const std::string& wanted) const;

  std::string name;
  std::string type;  // "integer", "true | false", "a | b | c" …
  std::string help;  // what it means and what it costs
  std::string default_text;
  std::vector<std::string> alias_names;
  std::optional<double> minimum, maximum, exclusive_minimum, exclusive_maximum;
  bool is_required = false;
  bool is_verbatim = false;
  OnResume on_resume = OnResume::kWarning;
  std::string given_at;                      // where it was last set; empty: it has its default
  std::function<void(const YamlNode&)> set;  // sets the target; throws Error 64
  std::function<std::optional<Json>()> get;  // the target as JSON; nothing: not set, and not set by default
};

namespace detail {
template <class T>
struct Unwrap {
  using Type = T;
  static constexpr bool kOptional = false;
};
template <class T>
struct Unwrap<std::optional<T>> {
  using Type = T;
  static constexpr bool kOptional = true;
};

}  // namespace detail

template <class T>
using Choices = std::vector<std::pair<std::string, T>>;

class Schema {
 public:
  Schema() = default;
  Schema(const Schema&) = delete;

  // Names the section in help and README; its keys follow. "" is the top level.
  void section(std::string name, std::string help) { sections_.emplace_back(std::move(name), std::move(help)); }

  // T is the type itself or a std::optional of it; the latter accepts null (`~`) as "not set" or "off".
  template <class T>
  Key& boolean(std::string name, T& target, std::string help);
  template <class T>
  Key& integer(std::string name, T& target, std::string help);  // int64_t; suffixes k, m, g
  template <class T>
  Key& number(std::string name, T& target, std::string help);  // double
  template <class T>
  Key& duration(std::string name, T& target, std::string help);  // double, seconds
  template <class T>
  Key& text(std::string name, T& target, std::string help);  // std::string, not empty
  // `former`: words that are still accepted but no longer shown.
  template <class T>
  Key& choice(std::string name, T& target, const Choices<typename detail::Unwrap<T>::Type>& choices, std::string help,
              const Choices<typename detail::Unwrap<T>::Type>& former = {});
  // An integer, or a word (`auto`) that empties the optional.
  Key& integer_or(std::string name, std::optional<int64_t>& target, const std::string& word, std::string help);
  // Any other type: the caller gives the type's text, a reader and a writer.
  Key& custom(std::string name, std::string type, std::string help, std::function<void(const YamlNode&)> set,
              std::function<std::optional<Json>()> get);

  void apply_file(const std::string& path);
  void apply(const YamlNode& document);  // a mapping (or null: nothing) at the top level
  // `key=value`: the value is parsed as YAML, or taken literally for verbatim keys. Messages name the argument.
  void apply_override(std::string_view argument);
  // Must be called last: fails if a required key was not given.
  void finish(const std::string& command) const;

  const Key* find(std::string_view name) const;
  bool given(std::string_view name) const;
  std::string where(std::string_view name) const;        // of a given key, for messages
  const std::string& source() const { return source_; }  // the file applied last, for messages about missing keys
  const std::deque<Key>& keys() const { return keys_; }
  const std::vector<std::pair<std::string, std::string>>& sections() const { return sections_; }

  std::string yaml() const;  // the resolved configuration; apply() of it gives the same
  Json json() const;         // the same as nested objects, unset keys left out
  // For a resumed run: compares the configuration `saved` (json() at that time) with this one. Fails with error 64 if a
  // key differs that must not; otherwise returns one "key: old -> new" for each difference that deserves a warning.
  std::vector<std::string> changes_since(const Json& saved, const std::string& where) const;
  std::string help() const;      // for a terminal
  std::string markdown() const;  // one table per section

 private:
  Key& add(std::string name, std::string type, std::string help);
  void apply_mapping(const YamlNode& mapping, const std::string& prefix);
  void set_key(Key& key, const YamlNode& value);
  bool is_section(const std::string& name) const;
  // If NAME lies within a key that is a mapping (rope.sliding_attention.factor), sets it there and keeps the mapping's
  // other entries. Returns false if there is no such key.
  bool apply_nested(const std::string& name, std::string_view text, const std::string& place);
  [[noreturn]] void unknown(const std::string& name, const std::string& where) const;

  std::deque<Key> keys_;  // a deque, because a key's closures point to it
  std::vector<std::pair<std::string, std::string>> sections_;
  std::string source_ = "the command line";
};

// Returns the section of a key: everything before its last dot.
std::string section_of(std::string_view name);

// --- templates -------------------------------------------------------------------------------------------------------

namespace detail {

// Converts a value without declared type to JSON: a plain scalar becomes the first that fits of null, boolean, integer,
// number, text.
Json free_json(const YamlNode& node);

// Readers of one scalar. They fail with the key's name, the place and what is accepted.
int64_t read_integer(const Key& key, const YamlNode& node);
double read_number(const Key& key, const YamlNode& node);
double read_duration(const Key& key, const YamlNode& node);
std::string read_text(const Key& key, const YamlNode& node);
std::string read_word(const Key& key, const YamlNode& node, const std::vector<std::string>& words);
Json word_json(const std::string& word);  // true and false become booleans
Json duration_json(double seconds);
std::string default_of(const std::optional<Json>& value);

// Binds a key to its target: null empties an optional, anything else goes through `read`.
template <class T, class Read, class Write>
Key& bind(Key& key, T& target, Read read, Write write) {
  key.set = [&key, &target, read](const YamlNode& node) {
    if constexpr (Unwrap<T>::kOptional) {
      if (node.kind == YamlNode::Kind::kNull) {
        target = std::nullopt;
        return;
      }
    }
    target = read(key, node);
  };
  bool off_by_default = true;  // an empty target is left out of the resolved configuration only if it is the default
  if constexpr (Unwrap<T>::kOptional) off_by_default = !target;
  key.get = [&target, write, off_by_default]() -> std::optional<Json> {
    if constexpr (Unwrap<T>::kOptional) {
      if (!target) return off_by_default ? std::nullopt : std::optional(Json());
      return write(*target);
    } else {
      return write(target);
    }
  };
  key.default_text = default_of(key.get());
  return key;
}

}  // namespace detail

template <class T>
Key& Schema::integer(std::string name, T& target, std::string help) {
  static_assert(std::is_same_v<typename detail::Unwrap<T>::Type, int64_t>);
  return detail::bind(add(std::move(name), "integer", std::move(help)), target, detail::read_integer,
                      [](int64_t value) { return Json(value); });
}

template <class T>
Key& Schema::number(std::string name, T& target, std::string help) {
  static_assert(std::is_same_v<typename detail::Unwrap<T>::Type, double>);
  return detail::bind(add(std::move(name), "number", std::move(help)), target, detail::read_number,
                      [](double value) { return Json(value); });
}

template <class T>
Key& Schema::duration(std::string name, T& target, std::string help) {
  return detail::bind(add(std::move(name), "duration", std::move(help)), target, detail::read_duration,
                      detail::duration_json);
}

template <class T>
Key& Schema::text(std::string name, T& target, std::string help) {
  return detail::bind(add(std::move(name), "text", std::move(help)), target, detail::read_text,
                      [](const std::string& value) { return Json(value); });
}

template <class T>
Key& Schema::boolean(std::string name, T& target, std::string help) {
  return choice(std::move(name), target, {{"true", true}, {"false", false}}, std::move(help));
}

template <class T>
Key& Schema::choice(std::string name, T& target, const Choices<typename detail::Unwrap<T>::Type>& choices,
                    std::string help, const Choices<typename detail::Unwrap<T>::Type>& former) {
  using Value = typename detail::Unwrap<T>::Type;
  std::vector<std::string> words;
  std::string type;
  for (const auto& [word, value] : choices) {
    words.push_back(word);
    type += (type.empty() ? "" : " | ") + word;
  }
  const auto read = [choices, words, former](const Key& key, const YamlNode& node) -> Value {
    for (const auto& [word, value] : former) {
      if (node.kind == YamlNode::Kind::kScalar && node.text == word) return value;
    }
    const std::string word = detail::read_word(key, node, words);
    for (const auto& [known, value] : choices) {
      if (known == word) return value;
    }
    key.refuse(node, "one of its choices");
  };
  const auto write = [choices](const Value& value) {
    for (const auto& [word, known] : choices) {
      if (known == value) return detail::word_json(word);
    }
    return Json();
  };
  return detail::bind(add(std::move(name), type, std::move(help)), target, read, write);
}

}  // namespace carillon
