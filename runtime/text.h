// Text helpers for messages: making strings from outside safe to print, and finding the nearest known name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace carillon {

// `text` with everything escaped that could forge a line or control a terminal: C0 and C1 controls and DEL become \xNN
// (\n, \r and \t keep their names), bytes that are not valid UTF-8 become \xNN, characters that are not seen or turn
// the direction of writing \uNNNN. Apply it to names from files, keys and paths before printing or logging them.
std::string printable(std::string_view text);

bool is_utf8(std::string_view text);

// Levenshtein distance in bytes; ignores case, and treats '-' and '_' as equal.
int edit_distance(std::string_view a, std::string_view b);

// The candidate nearest to `name` (the first one if several are equally near); empty if there are no candidates.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

// `name` in lower case with '-' replaced by '_', the form in which names are compared.
std::string canonical(std::string_view name);

// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

}  // namespace carillon
