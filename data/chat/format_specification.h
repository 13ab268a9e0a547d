// The format specification after the colon in "{:>8.3f}" or after the percent sign in "%8.3f", and the digits it
// produces.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/chat/value.h"

namespace carillon::jinja {

struct Specification {
  int32_t fill = ' ';
  char align = 0, sign = '-', grouping = 0, type = 0;
  bool alternate = false, zero = false, no_negative_zero = false;
  int64_t width = 0, precision = -1;
};

// Reads the number that begins at `at` and moves `at` past it; 0 if there are no digits.
int64_t read_number(std::string_view text, size_t& at);
// The digits of a float as Python's format codes write them, without the sign.
std::string float_digits(Heap& heap, double value, char type, int64_t precision, bool alternate);
std::string format_integer(Heap& heap, int64_t value, const Specification& how);

}  // namespace carillon::jinja
