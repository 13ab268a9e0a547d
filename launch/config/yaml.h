// Strict YAML. yaml-cpp parses, and its events are restricted to a subset on which all readers agree and in which no
// small file can grow large. Refused, with exit code 64 and file:line:column: anchors, aliases, tags, merge keys, a
// second document, duplicate keys (both lines are named), keys that are not plain text, more than 1 MiB, more than 16
// levels, more than 10 000 nodes, bytes that are not UTF-8, control characters.
//
// No yaml-cpp graph is built, because aliases would make it share nodes (a few lines can stand for 9^10 of them) or
// contain cycles. The limits are checked during parsing, so a hostile file is abandoned at the first violation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace carillon {

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;
  std::string text;             // a scalar's text
  bool quoted = false;          // a quoted or block scalar: text, never a number
  std::vector<YamlNode> keys;   // of a mapping: scalars, in the file's order
  std::vector<YamlNode> items;  // of a sequence; of a mapping the values, in the order of the keys
  std::string where;            // file:line:column for messages, lines and columns from 1

  const YamlNode* find(std::string_view key) const;  // the value of `key` in a mapping, or nullptr
  std::string describe() const;                      // for messages: "a list", "a mapping", "null", "'text'"
};

constexpr size_t kYamlMaximumBytes = 1 << 20;
constexpr int kYamlMaximumDepth = 16;
constexpr int kYamlMaximumNodes = 10'000;

// Parses a whole document; an empty one is null. `name` stands for the file in messages.
YamlNode parse_yaml(std::string_view text, const std::string& name);

// Parses a file. Fails with error 66 if it does not exist, 65 if it is a folder, 74 if it cannot be read.
YamlNode parse_yaml_file(const std::string& path);

// Reads a whole text file with the same errors; `maximum_bytes` is the limit named in the message (64).
std::string read_small_file(const std::string& path, size_t maximum_bytes);

}  // namespace carillon
