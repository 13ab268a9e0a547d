// Converts JSON to values and back like Python's json module: numbers keep their type, integers keep all digits, and of
// equal keys the last one wins.
#pragma once

#include <string>
#include <string_view>

#include "data/chat/value.h"

namespace carillon::jinja {

// Reads a value of bounded depth; throws std::invalid_argument with the place of the error if the text is not JSON.
Value read_json(Heap& heap, std::string_view text);

struct JsonStyle {
  bool ascii = false;
  bool lines = false;  // one item per line, with one `indent` per level
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
// TypeError for a value that JSON cannot represent.
std::string to_json(Heap& heap, const Value& value, const JsonStyle& style = {});

}  // namespace carillon::jinja
