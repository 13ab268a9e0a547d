#include "launch/config/values.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>

namespace carillon {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Restricts numbers to the usual decimal form; from_chars alone would also accept `inf`, `nan` and leading zeros (octal
// to some readers).
bool looks_decimal(std::string_view text) {
  if (!text.empty() && text[0] == '-') text.remove_prefix(1);
  if (text.empty() || !(is_digit(text[0]) || (text[0] == '.' && text.size() > 1 && is_digit(text[1])))) return false;
  return !(text[0] == '0' && text.size() > 1 && is_digit(text[1]));
}

template <class Number>
std::optional<Number> from_text(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<int64_t> parse_integer(std::string_view text) {
  if (!looks_decimal(text)) return std::nullopt;
  int shift = 0;
  switch (text.back()) {
    case 'k':
    case 'K':
      shift = 10;
      break;
    case 'm':
    case 'M':
      shift = 20;
      break;
    case 'g':
    case 'G':
      shift = 30;
      break;
    case 't':
    case 'T':
      shift = 40;
      break;
    default:
      break;
  }
  if (shift != 0) text.remove_suffix(1);
  const std::optional<int64_t> digits = from_text<int64_t>(text);
  int64_t value = 0;
  if (!digits || __builtin_mul_overflow(*digits, int64_t{1} << shift, &value)) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  if (!looks_decimal(text)) return std::nullopt;
  const std::optional<double> value = from_text<double>(text);
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::optional<double> parse_duration(std::string_view text) {
  double seconds = 0;
  double previous_unit = std::numeric_limits<double>::infinity();
  if (text.empty()) return std::nullopt;
  if (text == "0") return 0;  // with any unit
  while (!text.empty()) {
    const size_t length = std::min(text.find_first_not_of("0123456789."), text.size() - 1);
    const std::optional<double> count = parse_number(text.substr(0, length));
    const char letter = text[length];
    const double unit = letter == 's' ? 1 : letter == 'm' ? 60 : letter == 'h' ? 3600 : letter == 'd' ? 86400 : 0;
    if (!count || unit == 0 || unit >= previous_unit) return std::nullopt;
    seconds += *count * unit;
    previous_unit = unit;
    text.remove_prefix(length + 1);
  }
  return std::isfinite(seconds) ? std::optional(seconds) : std::nullopt;
}

std::string format_number(double value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end);
}

std::string format_duration(double seconds) {
  std::string text;
  double rest = seconds;
  for (const auto& [letter, unit] : {std::pair{'d', 86400.0}, {'h', 3600.0}, {'m', 60.0}}) {
    const double count = std::floor(rest / unit);
    // Digits beyond 2^53 days would not read back; such a duration is written in seconds.
    if (count >= 1 && count < 1e15) {
      text += fmt::format("{}{}", static_cast<int64_t>(count), letter);
      rest -= count * unit;
    }
  }
  if (rest > 0 || text.empty()) text += fmt::format("{:.15g}s", rest);
  return text;
}

std::string format_size(int64_t value) {
  for (const auto& [letter, shift] : {std::pair{'g', 30}, {'m', 20}, {'k', 10}}) {
    const int64_t unit = int64_t{1} << shift;
    if (value >= unit && value % unit == 0) return fmt::format("{}{}", value / unit, letter);
  }
  return fmt::format("{}", value);
}

}  // namespace carillon
