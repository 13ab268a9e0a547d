#include "data/chat/numbers.h"

#include <cmath>
#include <cstdlib>

#include "data/chat/text.h"
#include "data/chat/value.h"

namespace carillon::jinja {

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

}  // namespace carillon::jinja
