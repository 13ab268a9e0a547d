// The sets of characters that Hugging Face's tokenizers library (0.23.3) goes by, as
// tests/golden/make_unicode_tables.py asked them of it: its regular expressions know Unicode 16, its lower case and
// numerals 17, its normal forms 9.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace carillon {

struct PackedSet {
  std::string_view names;  // comma-separated, in small letters without spaces, hyphens and underscores
  // Base 64 of numbers of seven bits a byte, the least first, the highest bit saying that more follow: for every range
  // the gap since the one before, and one less than its length.
  std::string_view ranges;
};
// The properties of \p{…} by their names; "posix alpha" and its like: [[:alpha:]]; "rust numeric" and its like:
// classes of the library's own code.
const std::vector<PackedSet>& packed_sets();

// Packed likewise: runs of letters that have one other letter as lower case, as distance from the run before, one less
// than the count, one less than the step, and lower minus upper case (2d, or -2d - 1 when negative). Leaves out U+0130.
const char* packed_lower_case();

// Upper and lower case of letters that fold together since Unicode 15.
const std::vector<std::pair<int32_t, int32_t>>& newer_case_pairs();

}  // namespace carillon
