// Python's str and repr of values.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/chat/text.h"
#include "data/chat/value.h"

namespace carillon::jinja {

// The shortest digits that read back as the same number, in the format of Python's repr.
std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view written(buffer, static_cast<size_t>(end - buffer));
  std::string sign;
  if (written.starts_with('-')) {
    sign = "-";
    written.remove_prefix(1);
  }
  const size_t e = written.find('e');
  const int exponent = std::atoi(std::string(written.substr(e + 1)).c_str());
  std::string digits(1, written[0]);
  if (e > 1) digits += written.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    std::string text = sign + digits[0];
    if (count > 1) text += "." + digits.substr(1);
    const int size = std::abs(exponent);
    return text + (exponent < 0 ? "e-" : "e+") + (size < 10 ? "0" : "") + std::to_string(size);
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) return sign + digits + std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  return sign + digits.substr(0, static_cast<size_t>(exponent) + 1) + "." +
         digits.substr(static_cast<size_t>(exponent) + 1);
}

std::string string_representation(std::string_view text) {
  const bool single = text.find('\'') != std::string_view::npos, twice = text.find('"') != std::string_view::npos;
  const char quote = single && !twice ? '"' : '\'';
  std::string result(1, quote);
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    char escape[16];
    if (code == quote || code == '\\') {
      result += '\\';
      result += static_cast<char>(code);
    } else if (code == '\n') {
      result += "\\n";
    } else if (code == '\r') {
      result += "\\r";
    } else if (code == '\t') {
      result += "\\t";
    } else if (is_printable(code)) {
      result += text.substr(from, at - from);
    } else {
      std::snprintf(escape, sizeof escape,
                    code < 0x100     ? "\\x%02x"
                    : code < 0x10000 ? "\\u%04x"
                                     : "\\U%08x",
                    static_cast<unsigned>(code));
      result += escape;
    }
  }
  return result + quote;
}

std::string to_text(Heap& heap, const Value& value) {
  if (value.is_string()) return value.text();
  if (value.is_undefined()) return "";
  return representation(heap, value);
}

std::string representation(Heap& heap, const Value& value, int depth) {
  check_depth(depth);
  const auto join = [&](const auto& list, const char* open, const char* close) {
    std::string text = open;
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) text += ", ";
      text += representation(heap, list[i], depth + 1);
    }
    return text + close;
  };
  const auto pairs = [&](const auto& entries) {
    std::string text = "{";
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) text += ", ";
      if constexpr (std::is_same_v<std::decay_t<decltype(entries[i].first)>, std::string>)
        text += string_representation(entries[i].first);
      else
        text += representation(heap, entries[i].first, depth + 1);
      text += ": " + representation(heap, entries[i].second, depth + 1);
    }
    return text + "}";
  };
  std::string text;
  switch (value.kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      text = "Undefined";
      break;
    case Kind::kNone:
      text = "None";
      break;
    case Kind::kBool:
      text = value.boolean ? "True" : "False";
      break;
    case Kind::kInteger:
      text = std::to_string(value.integer);
      break;
    case Kind::kBigInteger:
      text = value.text();
      break;
    case Kind::kFloat:
      text = float_text(value.number);
      break;
    case Kind::kString:
      text = string_representation(value.text());
      if (value.string().markup) text = "Markup(" + text + ")";
      break;
    case Kind::kList:
      text = join(value.items(), "[", "]");
      break;
    case Kind::kTuple:
      text = join(value.items(), "(", value.items().size() == 1 ? ",)" : ")");
      break;
    case Kind::kDict:
      text = pairs(value.dict().entries);
      break;
    case Kind::kDictView:
      text = std::string(type_name(value)) + "(" + join(to_vector(heap, value), "[", "]") + ")";
      break;
    case Kind::kRange: {
      const auto& range = *static_cast<const Range*>(value.object);
      text = "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop) +
             (range.step == 1 ? "" : ", " + std::to_string(range.step)) + ")";
      break;
    }
    case Kind::kNamespace:
      text = "<Namespace " + pairs(static_cast<const Namespace*>(value.object)->attributes) + ">";
      break;
    default:
      raise(std::string("a ") + type_name(value) +
            " is printed, whose text differs from run to run (is a call or `| list` missing?)");
  }
  heap.charge(text.size());
  return text;
}

}  // namespace carillon::jinja
