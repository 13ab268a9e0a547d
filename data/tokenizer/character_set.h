// Sets of code points by name, from the tables of unicode_tables.h.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace carillon {

class CharacterSet {
 public:
  // `ranges`: the number of ranges, then first and last of each, in order (Oniguruma's format).
  explicit CharacterSet(std::vector<uint32_t> ranges);

  // The set with this name, as written in unicode_tables.h; nullptr if there is none. Thread-safe.
  static const CharacterSet* find(std::string_view name);
  // The index of a set among all sets, -1 if there is none; and the set with an index.
  static int index_of(std::string_view name);
  static const CharacterSet& at(int index);

  bool contains(int32_t code_point) const {
    const auto c = static_cast<uint32_t>(code_point);
    return c < 64 * kWords ? (low_[c / 64] >> (c % 64) & 1) != 0 : contains_high(c);
  }
  const std::vector<uint32_t>& ranges() const { return ranges_; }

 private:
  static constexpr uint32_t kWords = 16;  // one bit per code point below U+0400
  bool contains_high(uint32_t code_point) const;

  std::vector<uint32_t> ranges_;
  uint64_t low_[kWords] = {};
};

// A set that must exist in unicode_tables.cpp.
const CharacterSet& named_set(std::string_view name);

// Runs of letters whose lower case is another letter: letters first, first + step … last, each `difference` away from
// its lower case.
struct LowerCaseRun {
  int32_t first, last, step, difference;
};
const std::vector<LowerCaseRun>& lower_case_runs();

}  // namespace carillon
