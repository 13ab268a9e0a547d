// Small text helpers of the program's face: making foreign strings safe to print, and finding the nearest known name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace carillon {

// `text` with everything that could forge a line or drive a terminal made visible: C0 and C1 controls and DEL as \xNN
// (\n, \r, \t by name), bytes that are no UTF-8 as \xNN. Names from files, keys and paths pass through here before they
// are printed or logged.
std::string printable(std::string_view text);

bool is_utf8(std::string_view text);

// Levenshtein distance in bytes; letters are compared without case, '-' and '_' are the same.
int edit_distance(std::string_view a, std::string_view b);

// The candidate nearest to `name` (the first of equals); empty when there are none.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

// Lower case, '-' as '_': how names are compared.
std::string canonical(std::string_view name);

// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

}  // namespace carillon
