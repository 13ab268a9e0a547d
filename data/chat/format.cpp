#include "data/chat/format.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "data/chat/evaluator.h"
#include "data/chat/format_specification.h"
#include "data/chat/text.h"

namespace carillon::jinja {

std::string padded(Heap& heap, std::string_view text, int64_t width, int32_t fill, char alignment, bool center) {
  const int64_t missing = width - code_points(text);
  if (missing <= 0) return std::string(text);
  if (missing > (int64_t{1} << 32)) throw TemplateError(TemplateError::Reason::kLimit, "a text is padded too far");
  heap.charge(static_cast<size_t>(missing) * 4);
  int64_t left = 0;
  if (alignment == '^') left = center ? missing / 2 + (missing & width & 1) : missing / 2;
  if (alignment == '>') left = missing;
  std::string one, result;
  append_character(one, fill);
  for (int64_t i = 0; i < left; ++i) result += one;
  result += text;
  for (int64_t i = left; i < missing; ++i) result += one;
  return result;
}

std::string bounded_replace(Heap& heap, const std::string& text, const std::string& old, const std::string& fresh,
                            int64_t count) {
  heap.charge(text.size());
  int64_t times = count_text(text, old);
  if (count >= 0) times = std::min(times, count);
  if (times > 0 && fresh.size() > (size_t{1} << 40) / static_cast<size_t>(times))
    throw TemplateError(TemplateError::Reason::kLimit, "the template makes more text than is allowed");
  heap.charge(fresh.size() * static_cast<size_t>(times));
  return replace_text(text, old, fresh, count);
}

namespace {

std::string grouped(std::string digits, char separator, size_t size) {
  for (size_t at = digits.size(); at > size;) {
    at -= size;
    digits.insert(at, 1, separator);
  }
  return digits;
}

Specification read_specification(const std::string& text) {
  Specification made;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  if (!text.empty()) {
    size_t behind = 0;
    const int32_t first = next_character(text, behind);
    if (behind < text.size() && is_align(text[behind])) {
      made.fill = first;
      made.align = text[behind];
      at = behind + 1;
    } else if (is_align(text[0])) {
      made.align = text[0];
      at = 1;
    }
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) made.sign = text[at++];
  if (at < text.size() && text[at] == 'z') made.no_negative_zero = (++at, true);
  if (at < text.size() && text[at] == '#') made.alternate = (++at, true);
  if (at < text.size() && text[at] == '0') {
    made.zero = true;
    if (made.align == 0) made.fill = '0';
    ++at;
  }
  made.width = read_number(text, at);
  if (at < text.size() && (text[at] == ',' || text[at] == '_')) made.grouping = text[at++];
  if (at < text.size() && text[at] == '.') {
    const size_t from = ++at;
    made.precision = read_number(text, at);
    if (at == from) raise("Format specifier missing precision");
  }
  if (at < text.size()) made.type = text[at++];
  if (at < text.size()) raise("Invalid format specifier '" + text + "'");
  return made;
}

std::string place(Heap& heap, const Specification& how, const std::string& sign, const std::string& body,
                  char otherwise) {
  char align = how.align;
  if (align == 0) align = how.zero && otherwise == '>' ? '=' : otherwise;
  if (align == '=') return sign + padded(heap, body, how.width - code_points(sign), how.fill, '>', false);
  return padded(heap, sign + body, how.width, how.fill, align, false);
}

}  // namespace

int64_t read_number(std::string_view text, size_t& at) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
    value = std::min<int64_t>(value * 10 + text[at] - '0', INT32_MAX);
  return value;
}

std::string float_digits(Heap& heap, double value, char type, int64_t precision, bool alternate) {
  if (!std::isfinite(value)) {
    const std::string word = std::isnan(value) ? "nan" : "inf";
    return type == 'E' || type == 'F' || type == 'G' ? upper(word) : word;
  }
  if (precision > (1 << 20)) raise("precision too big");
  if (precision < 0) precision = 6;
  heap.charge(static_cast<size_t>(precision) + 400);
  const std::string pattern = std::string("%") + (alternate ? "#" : "") + ".*" + type;
  std::string text(static_cast<size_t>(precision) + 400, '\0');
  const int size = std::snprintf(text.data(), text.size(), pattern.c_str(), static_cast<int>(precision), value);
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string format_integer(Heap& heap, int64_t value, const Specification& how) {
  if (how.precision >= 0) raise("Precision not allowed in integer format specifier");
  if (how.type == 'c') {
    if (value < 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) raise("%c arg not in range(0x110000)");
    std::string character;
    append_character(character, static_cast<int32_t>(value));
    return place(heap, how, "", character, '<');
  }
  const int base = how.type == 'b' ? 2 : how.type == 'o' ? 8 : how.type == 'x' || how.type == 'X' ? 16 : 10;
  uint64_t rest = static_cast<uint64_t>(value);
  if (value < 0) rest = 0 - rest;
  std::string digits;
  do {
    digits += (how.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[rest % static_cast<uint64_t>(base)];
    rest /= static_cast<uint64_t>(base);
  } while (rest > 0);
  std::reverse(digits.begin(), digits.end());
  if (how.grouping == ',' && base != 10) raise("Cannot specify ',' with this format code");
  if (how.grouping != 0) digits = grouped(digits, how.grouping, base == 10 ? 3 : 4);
  std::string sign = value < 0 ? "-" : how.sign == '-' ? "" : std::string(1, how.sign);
  if (how.alternate && base != 10) sign += std::string("0") + how.type;
  // Grouping also applies to leading zeros.
  if (how.grouping != 0 && how.fill == '0' && (how.align == 0 || how.align == '=')) {
    const size_t size = base == 10 ? 3 : 4;
    heap.charge(static_cast<size_t>(std::max<int64_t>(how.width, 0)) * 2);
    std::erase(digits, how.grouping);
    while (static_cast<int64_t>(sign.size() + grouped(digits, how.grouping, size).size()) < how.width &&
           digits.size() < 4096)
      digits.insert(0, 1, '0');
    std::string body = grouped(digits, how.grouping, size);
    return sign + body;
  }
  return place(heap, how, sign, digits, '>');
}

namespace {

std::string format_float(Heap& heap, double value, Specification how) {
  std::string body;
  const double size = std::fabs(value);
  if (how.type == 0 && how.precision < 0) {
    body = float_text(size);
  } else if (how.type == 0) {
    // Like 'g', but with at least one digit after the point.
    const int64_t precision = std::max<int64_t>(how.precision, 1);
    body = float_digits(heap, size, 'g', precision, how.alternate);
    if (std::isfinite(size) && body.find_first_of(".e") == std::string::npos) {
      // Like repr: uses an exponent from `precision` digits on.
      if (static_cast<int64_t>(body.size()) >= precision + 1 || (precision == static_cast<int64_t>(body.size())))
        body = float_digits(heap, size, 'e', precision - 1, how.alternate);
      else
        body += ".0";
      if (const size_t e = body.find('e'); e != std::string::npos && body.find('.') != std::string::npos) {
        size_t last = e;
        while (body[last - 1] == '0') --last;
        if (body[last - 1] == '.') --last;
        body.erase(last, e - last);
      }
    }
  } else if (how.type == '%') {
    body = float_digits(heap, size * 100, 'f', how.precision, how.alternate) + "%";
  } else {
    const char type = how.type == 'n' ? 'g' : how.type;
    body = float_digits(heap, size, type,
                        how.type == 'g' || how.type == 'G' || how.type == 'n' ? (how.precision == 0 ? 1 : how.precision)
                                                                              : how.precision,
                        how.alternate);
  }
  if (how.grouping != 0) {
    const size_t end = std::min(body.find_first_not_of("0123456789"), body.size());
    body = grouped(body.substr(0, end), how.grouping, 3) + body.substr(end);
  }
  const std::string sign = std::signbit(value) && !std::isnan(value) ? "-"
                           : how.sign == '-'                         ? ""
                                                                     : std::string(1, how.sign);
  return place(heap, how, sign, body, '>');
}

}  // namespace

std::string format_value(Heap& heap, const Value& value, const std::string& specification) {
  if (specification.empty()) return to_text(heap, value);
  if (!value.is_string() && !value.is_number()) {
    raise(std::string("unsupported format string passed to ") + type_name(value) + ".__format__");
  }
  const Specification how = read_specification(specification);
  if (value.is_string()) {
    if (how.type != 0 && how.type != 's')
      raise(std::string("Unknown format code '") + how.type + "' for object of type 'str'");
    if (how.sign != '-' || how.align == '=' || how.alternate || how.grouping != 0)
      raise("Invalid format specifier for a text");
    std::string_view text = value.text();
    if (how.precision >= 0) text = text.substr(0, byte_offset(text, how.precision));
    return padded(heap, text, how.width, how.fill, how.align == 0 ? '<' : how.align, false);
  }
  if (value.is(Kind::kBool) && how.type == 0)
    return padded(heap, to_text(heap, value), how.width, how.fill, how.align == 0 ? '<' : how.align, false);
  if (value.is_integral() && std::string_view("bcdoxXn").find(how.type == 0 ? 'd' : how.type) != std::string_view::npos)
    return format_integer(heap, value.as_integer(), how);
  if (std::string_view("eEfFgGn%").find(how.type == 0 ? 'g' : how.type) == std::string_view::npos)
    raise(std::string("Unknown format code '") + how.type + "' for object of type '" + type_name(value) + "'");
  return format_float(heap, value.as_double(), how);
}

}  // namespace carillon::jinja
