// The sets of characters that Hugging Face's tokenizers library (0.23.3) uses, as tests/golden/make_unicode_tables.py
// determined from it. Its regular expressions know Unicode 16, its lower case and numerals 17, its normal forms 9.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace carillon {

struct PackedSet {
  std::string_view names;  // comma-separated, in lower case without spaces, hyphens and underscores
  // Base 64 of numbers with seven bits per byte, least significant first; the highest bit means that more follow. For
  // each range: the gap after the previous one, and its length minus 1.
  std::string_view ranges;
};
// The properties of \p{…} by name; "posix alpha" and the like: [[:alpha:]]; "rust numeric" and the like: classes in the
// library's own code.
const std::vector<PackedSet>& packed_sets();

// Packed in the same way: runs of letters whose lower case is a single other letter, as distance from the previous run,
// count minus 1, step minus 1, and lower minus upper case d (as 2d, or -2d - 1 if negative). Leaves out U+0130.
const char* packed_lower_case();

// Upper and lower case of letters that have been case variants of each other only since Unicode 15.
const std::vector<std::pair<int32_t, int32_t>>& newer_case_pairs();

}  // namespace carillon
