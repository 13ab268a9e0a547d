// JSON to values and back, as Python's json module: numbers keep their kind and integers all their digits, of equal
// keys the last counts.
#pragma once

#include <string>
#include <string_view>

#include "data/chat/value.h"

namespace carillon::jinja {

// The value, whose depth is bounded; throws std::invalid_argument, saying where, for what is no JSON.
Value read_json(Heap& heap, std::string_view text);

struct JsonStyle {
  bool ascii = false;
  bool lines = false;  // an item a line, with `indent` for each depth
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
// TypeError for what JSON cannot say.
std::string to_json(Heap& heap, const Value& value, const JsonStyle& style = {});

}  // namespace carillon::jinja
