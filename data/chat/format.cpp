#include "data/chat/format.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "data/chat/evaluator.h"
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

std::optional<int64_t> parse_integer(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) raise("int() base must be >= 2 and <= 36, or 0");
  text = strip(text, Side::kBoth);
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  bool prefixed = false;
  if (text.size() > 1 && text[0] == '0') {
    const char letter = static_cast<char>(text[1] | 0x20);
    const int64_t of = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (of != 0 && (base == of || base == 0)) {
      base = of;
      text.remove_prefix(2);
      prefixed = true;
      if (!text.empty() && text[0] == '_') text.remove_prefix(1);
    }
  }
  if (base == 0) {
    if (text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != std::string_view::npos)
      return std::nullopt;
    base = 10;
  }
  (void)prefixed;
  if (text.empty()) return std::nullopt;
  int64_t value = 0;
  bool digit_before = false;
  for (const char c : text) {
    if (c == '_') {
      if (!digit_before) return std::nullopt;
      digit_before = false;
      continue;
    }
    const int64_t digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'z' ? c - 'a' + 10
                          : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                                 : 99;
    if (digit >= base) return std::nullopt;
    if (__builtin_mul_overflow(value, base, &value) || __builtin_sub_overflow(value, digit, &value))
      raise("an integer beyond 64 bits");
    digit_before = true;
  }
  if (!digit_before) return std::nullopt;
  if (!negative && value == INT64_MIN) raise("an integer beyond 64 bits");
  return negative ? value : -value;
}

std::optional<double> parse_float(std::string_view text) {
  text = strip(text, Side::kBoth);
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
    if (text[i] == '_') {
      if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
    } else {
      plain += text[i];
    }
  }
  const size_t sign = !plain.empty() && (plain[0] == '+' || plain[0] == '-') ? 1 : 0;
  const std::string word = lower(std::string_view(plain).substr(sign));
  if (word == "inf" || word == "infinity") return plain[0] == '-' ? -INFINITY : INFINITY;
  if (word == "nan") return NAN;
  if (plain.empty() || plain.find_first_not_of("0123456789.eE+-") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(plain.c_str(), &end);
  if (*end != '\0' || end == plain.c_str()) return std::nullopt;
  return value;
}

double rounded(double value, int64_t digits) {
  if (!std::isfinite(value) || value == 0) return value;
  char buffer[512];
  if (digits >= 0) {
    if (digits > 340) return value;
    std::snprintf(buffer, sizeof buffer, "%.*f", 0, 0.0);
    std::string text(static_cast<size_t>(digits) + 400, '\0');
    const int size = std::snprintf(text.data(), text.size(), "%.*f", static_cast<int>(digits), value);
    text.resize(static_cast<size_t>(size));
    return std::strtod(text.c_str(), nullptr);
  }
  std::snprintf(buffer, sizeof buffer, "%.0e", value);
  const int64_t exponent = static_cast<int64_t>(std::floor(std::log10(std::fabs(value))));
  const int64_t kept = exponent + digits;
  if (kept < -1) return std::copysign(0.0, value);
  if (kept == -1) {
    const double ten = std::pow(10.0, static_cast<double>(-digits));
    return std::copysign(std::fabs(value) > ten / 2 ? ten : 0.0, value);
  }
  std::snprintf(buffer, sizeof buffer, "%.*e", static_cast<int>(std::min<int64_t>(kept, 400)), value);
  return std::strtod(buffer, nullptr);
}

namespace {

std::string grouped(std::string digits, char separator, size_t size) {
  for (size_t at = digits.size(); at > size;) {
    at -= size;
    digits.insert(at, 1, separator);
  }
  return digits;
}

struct Specification {
  int32_t fill = ' ';
  char align = 0, sign = '-', grouping = 0, type = 0;
  bool alternate = false, zero = false, no_negative_zero = false;
  int64_t width = 0, precision = -1;
};

int64_t read_number(std::string_view text, size_t& at) {
  int64_t value = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
    value = std::min<int64_t>(value * 10 + text[at] - '0', INT32_MAX);
  return value;
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

// The digits of a float as Python's format codes write them, without its sign.
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

std::string place(Heap& heap, const Specification& how, const std::string& sign, const std::string& body,
                  char otherwise) {
  char align = how.align;
  if (align == 0) align = how.zero && otherwise == '>' ? '=' : otherwise;
  if (align == '=') return sign + padded(heap, body, how.width - code_points(sign), how.fill, '>', false);
  return padded(heap, sign + body, how.width, how.fill, align, false);
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
  // With zeros in front the grouping goes on through them.
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

std::string format_float(Heap& heap, double value, Specification how) {
  std::string body;
  const double size = std::fabs(value);
  if (how.type == 0 && how.precision < 0) {
    body = float_text(size);
  } else if (how.type == 0) {
    // As 'g', with at least one digit behind the point.
    const int64_t precision = std::max<int64_t>(how.precision, 1);
    body = float_digits(heap, size, 'g', precision, how.alternate);
    if (std::isfinite(size) && body.find_first_of(".e") == std::string::npos) {
      // repr-like: an exponent from `precision` digits on.
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
  // What could be asked for by name need not be used.
  const bool maybe_named =
      arguments.is_undefined() || arguments.is(Kind::kDict) || arguments.is(Kind::kList) || arguments.is(Kind::kRange);
  if (is_tuple ? used < arguments.items().size() : used == 0 && !by_name && !maybe_named)
    raise("not all arguments converted during string formatting");
  return result;
}

namespace {

class BraceFormatter {
 public:
  BraceFormatter(Evaluator& evaluator, const Arguments& arguments, bool escape)
      : evaluator_(evaluator), arguments_(arguments), escape_(escape) {}

  std::string format(std::string_view text, int depth) {
    if (depth > 1) raise("Max string recursion exceeded");
    evaluator_.heap().charge(text.size());
    std::string result;
    for (size_t at = 0; at < text.size();) {
      const char c = text[at];
      if (c != '{' && c != '}') {
        result += c;
        ++at;
        continue;
      }
      if (at + 1 < text.size() && text[at + 1] == c) {
        result += c;
        at += 2;
        continue;
      }
      if (c == '}') raise("Single '}' encountered in format string");
      size_t end = at + 1;
      for (int open = 1; end < text.size(); ++end) {
        if (text[end] == '[' && open == 1) {
          while (end < text.size() && text[end] != ']') ++end;
          if (end >= text.size()) break;
        }
        open += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
        if (open == 0) break;
      }
      if (end >= text.size())
        raise(at + 1 >= text.size() ? "Single '{' encountered in format string" : "expected '}' before end of string");
      result += field(text.substr(at + 1, end - at - 1), depth);
      at = end + 1;
    }
    return result;
  }

 private:
  std::string field(std::string_view text, int depth) {
    size_t end = 0;
    while (end < text.size() && text[end] != '!' && text[end] != ':') {
      if (text[end] == '[') end = std::min(text.find(']', end), text.size() - 1);
      ++end;
    }
    const std::string_view name = text.substr(0, end);
    char conversion = 0;
    if (end < text.size() && text[end] == '!') {
      if (end + 1 >= text.size()) raise("end of string while looking for conversion specifier");
      conversion = text[end + 1];
      end += 2;
      if (end < text.size() && text[end] != ':') raise("expected ':' after conversion specifier");
    }
    const std::string specification = end < text.size() ? format(text.substr(end + 1), depth + 1) : "";
    Heap& heap = evaluator_.heap();
    Value value = get(name);
    if (conversion == 's' || conversion == 'r') {
      value = heap.string(conversion == 's' ? to_text(heap, value) : representation(heap, value));
    } else if (conversion != 0) {
      raise(std::string("Unknown conversion specifier '") + conversion + "'");
    }
    std::string result;
    if (value.is_undefined() && !specification.empty())
      raise("unsupported format string passed to Undefined.__format__");
    result = format_value(heap, value, specification);
    return escape_ && !(value.is_string() && value.string().markup) ? escape_html(result) : result;
  }

  Value get(std::string_view name) {
    const size_t end = std::min(name.find_first_of(".["), name.size());
    const std::string first(name.substr(0, end));
    Value value;
    const bool number =
        !first.empty() && first.size() < 10 && first.find_first_not_of("0123456789") == std::string::npos;
    if (first.empty() || number) {
      if (first.empty() ? numbered_ : counted_ > 0)
        raise("cannot switch between automatic field numbering and manual field specification");
      numbered_ = numbered_ || number;
      const size_t index = number ? static_cast<size_t>(std::stoul(first)) : counted_++;
      if (index >= arguments_.positional.size())
        raise("Replacement index " + std::to_string(index) + " out of range for positional args tuple");
      value = arguments_.positional[index];
    } else {
      bool found = false;
      for (const auto& [known, given] : arguments_.named)
        if (known == first) value = given, found = true;
      if (!found) raise("there is no key " + string_representation(first));
    }
    Heap& heap = evaluator_.heap();
    for (size_t at = end; at < name.size();) {
      if (name[at] == '.') {
        const size_t stop = std::min(name.find_first_of(".[", at + 1), name.size());
        if (stop == at + 1) raise("Empty attribute in format string");
        value = evaluator_.attribute(value, std::string(name.substr(at + 1, stop - at - 1)));
        at = stop;
      } else if (name[at] == '[') {
        const size_t stop = name.find(']', at);
        if (stop == std::string_view::npos) raise("Missing ']' in format string");
        const std::string key(name.substr(at + 1, stop - at - 1));
        if (key.empty()) raise("Empty attribute in format string");
        const bool index = key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos;
        value = evaluator_.item(value, index ? Value::from(int64_t{std::stoll(key)}) : heap.string(key));
        at = stop + 1;
      } else {
        raise("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Evaluator& evaluator_;
  const Arguments& arguments_;
  bool escape_;
  size_t counted_ = 0;
  bool numbered_ = false;
};

}  // namespace

std::string format_braces(Evaluator& evaluator, const std::string& text, const Arguments& arguments, bool escape) {
  return BraceFormatter(evaluator, arguments, escape).format(text, 0);
}

}  // namespace carillon::jinja
