// Conversions of the configuration's scalar types from and to text, independent of the locale. The whole text must be
// the value, so `1_000`, `+5`, `0x10`, `010`, `12 ` and `.inf` are not numbers. A parser returns nothing if the text is
// not of its type; the caller knows file and line and composes the message.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace carillon {

// An integer, with an optional suffix k, m, g or t (either case) for 2^10, 2^20, 2^30, 2^40: `64k` is 65536.
std::optional<int64_t> parse_integer(std::string_view text);

// A finite decimal number: `2e-5`, `0.1`, `-3`, `8`.
std::optional<double> parse_number(std::string_view text);

// `true` or `false` only: YAML 1.1's yes, no, on and off are not understood equally by all readers.
std::optional<bool> parse_boolean(std::string_view text);

// Seconds, from whole or decimal numbers with units s, m, h, d, largest first: `30m`, `1h30m`, `1.5h`, `90s`. A number
// without a unit is refused, because readers disagree on seconds or minutes.
std::optional<double> parse_duration(std::string_view text);

// Returns the shortest text that reads back as the same number.
std::string format_number(double value);
// Returns text that parse_duration reads back: `30m`, `1h30m`, `0.5s`.
std::string format_duration(double seconds);
// For people: `65536` as `64k` if it divides evenly, otherwise the digits.
std::string format_size(int64_t value);

}  // namespace carillon
