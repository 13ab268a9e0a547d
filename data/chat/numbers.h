// Parses and rounds numbers as Python does.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace carillon::jinja {

std::optional<int64_t> parse_integer(std::string_view text, int64_t base);  // int(text, base)
std::optional<double> parse_float(std::string_view text);                   // float(text)
double rounded(double value, int64_t digits);                               // round(value, digits)

}  // namespace carillon::jinja
