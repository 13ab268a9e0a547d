#include <cmath>

#include "data/chat/format.h"
#include "data/chat/format_specification.h"
#include "data/chat/text.h"

namespace carillon::jinja {

std::string format_percent(Heap& heap, const Value& value, const Value& arguments) {
  const std::string& text = value.text();
  const bool markup = value.string().markup;
  heap.charge(text.size());
  std::string result;
  size_t used = 0;
  bool by_name = false;
  const bool is_tuple = arguments.is(Kind::kTuple);
  const auto next = [&]() -> Value {
    if (!is_tuple && used == 0) {
      ++used;
      return arguments;
    }
    if (!is_tuple || used >= arguments.items().size()) raise("not enough arguments for format string");
    return arguments.items()[used++];
  };
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '%') {
      result += text[at++];
      continue;
    }
    if (++at >= text.size()) raise("incomplete format");
    Value given;
    bool named = false;
    if (text[at] == '(') {
      size_t end = at + 1;
      for (int depth = 1; end < text.size() && depth > 0; ++end)
        depth += text[end] == '(' ? 1 : text[end] == ')' ? -1 : 0;
      if (text[end - 1] != ')') raise("incomplete format key");
      if (!arguments.is(Kind::kDict)) raise("format requires a mapping");
      const std::string key = text.substr(at + 1, end - at - 2);
      const Value* found = arguments.dict().find(key);
      if (found == nullptr) raise("there is no key " + string_representation(key));
      given = *found;
      named = by_name = true;
      at = end;
    }
    Specification how;
    bool left = false;
    for (; at < text.size() && std::string_view("-+ #0").find(text[at]) != std::string_view::npos; ++at) {
      if (text[at] == '-') left = true;
      if (text[at] == '+') how.sign = '+';
      if (text[at] == ' ' && how.sign != '+') how.sign = ' ';
      if (text[at] == '#') how.alternate = true;
      if (text[at] == '0') how.zero = true;
    }
    const auto star = [&](int64_t& number) {
      const Value width = next();
      if (!width.is_integral()) raise("* wants int");
      number = width.as_integer();
      ++at;
    };
    if (at < text.size() && text[at] == '*') {
      star(how.width);
      if (how.width < 0) {
        left = true;
        how.width = how.width == INT64_MIN ? INT64_MAX : -how.width;
      }
    } else {
      how.width = read_number(text, at);
    }
    if (at < text.size() && text[at] == '.') {
      ++at;
      if (at < text.size() && text[at] == '*')
        star(how.precision);
      else
        how.precision = read_number(text, at);
      how.precision = std::max<int64_t>(how.precision, 0);
    }
    while (at < text.size() && (text[at] == 'h' || text[at] == 'l' || text[at] == 'L')) ++at;
    if (at >= text.size()) raise("incomplete format");
    const char type = text[at++];
    if (type == '%') {
      result += '%';
      continue;
    }
    if (!named) given = next();
    std::string sign, body;
    switch (type) {
      case 's':
      case 'r':
      case 'a': {
        body = type == 's' ? to_text(heap, given) : representation(heap, given);
        if (type == 'a')
          for (const char c : body)
            if (static_cast<unsigned char>(c) >= 0x80) raise("%a of characters beyond ASCII is not supported");
        if (markup && !(given.is_string() && given.string().markup)) body = escape_html(body);
        if (how.precision >= 0) body = body.substr(0, byte_offset(body, how.precision));
        how.zero = false;
        break;
      }
      case 'c':
        if (given.is_string()) {
          if (given.string().length != 1) raise("%c requires int or char");
          body = given.text();
        } else if (given.is_integral()) {
          Specification plain;
          plain.type = 'c';
          body = format_integer(heap, given.as_integer(), plain);
        } else {
          raise("%c requires int or char");
        }
        how.zero = false;
        break;
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X': {
        if (given.is_undefined()) raise(std::string("%") + type + " format: a real number is required, not Undefined");
        if (!given.is_number() || (given.is(Kind::kFloat) && (type == 'o' || (type | 0x20) == 'x')))
          raise(std::string("%") + type + " format: a real number is required, not " + type_name(given));
        if (given.is(Kind::kFloat) && !(std::fabs(given.number) < 9.2e18))
          raise("cannot convert this float to an integer");
        const int64_t whole = given.is(Kind::kFloat) ? static_cast<int64_t>(given.number) : given.as_integer();
        Specification plain;
        plain.type = type == 'i' || type == 'u' ? 'd' : type;
        body = format_integer(heap, whole, plain);
        if (body.starts_with('-')) {
          sign = "-";
          body.erase(0, 1);
        } else if (how.sign != '-') {
          sign = std::string(1, how.sign);
        }
        if (how.precision >= 0) body = padded(heap, body, how.precision, '0', '>', false);
        if (how.alternate && plain.type != 'd') sign += std::string("0") + type;
        break;
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        if (given.is_undefined()) raise_undefined(given);
        std::optional<double> number;
        if (given.is_number()) number = given.as_double();
        if (!number) raise(std::string("must be real number, not ") + type_name(given));
        body = float_digits(heap, std::fabs(*number), type,
                            (type | 0x20) == 'g' && how.precision == 0 ? 1 : how.precision, how.alternate);
        sign = std::signbit(*number) && !std::isnan(*number) ? "-" : how.sign == '-' ? "" : std::string(1, how.sign);
        break;
      }
      default:
        raise(std::string("unsupported format character '") + type + "'");
    }
    if (left)
      result += padded(heap, sign + body, how.width, ' ', '<', false);
    else if (how.zero)
      result += sign + padded(heap, body, how.width - code_points(sign), '0', '>', false);
    else
      result += padded(heap, sign + body, how.width, ' ', '>', false);
    heap.charge(body.size());
  }
  // Unused arguments are allowed if they can be accessed by name.
  const bool maybe_named =
      arguments.is_undefined() || arguments.is(Kind::kDict) || arguments.is(Kind::kList) || arguments.is(Kind::kRange);
  if (is_tuple ? used < arguments.items().size() : used == 0 && !by_name && !maybe_named)
    raise("not all arguments converted during string formatting");
  return result;
}

}  // namespace carillon::jinja
