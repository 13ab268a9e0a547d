#include "data/tokenizer/character_set.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "data/tokenizer/unicode_tables.h"
#include "runtime/check.h"

namespace carillon {
namespace {

// Unpacks the numbers of a packed text.
std::vector<uint32_t> unpack(std::string_view text) {
  const auto value_of = [](char c) -> uint32_t {
    if (c >= 'A' && c <= 'Z') return static_cast<uint32_t>(c - 'A');
    if (c >= 'a' && c <= 'z') return static_cast<uint32_t>(c - 'a' + 26);
    if (c >= '0' && c <= '9') return static_cast<uint32_t>(c - '0' + 52);
    return c == '+' ? 62 : 63;
  };
  std::vector<uint32_t> numbers;
  uint32_t bits = 0, held = 0, number = 0, shift = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | value_of(c);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    const uint32_t byte = bits >> held & 0xFF;
    number |= (byte & 127) << shift;
    shift += 7;
    if ((byte & 128) != 0) continue;
    numbers.push_back(number);
    number = shift = 0;
  }
  return numbers;
}

struct Index {
  std::unordered_map<std::string_view, int> by_name;
  std::vector<std::unique_ptr<CharacterSet>> sets;
  std::unique_ptr<std::once_flag[]> unpacked;

  Index() : sets(packed_sets().size()), unpacked(std::make_unique<std::once_flag[]>(sets.size())) {
    for (size_t i = 0; i < sets.size(); ++i) {
      std::string_view names = packed_sets()[i].names;
      while (!names.empty()) {
        const size_t comma = std::min(names.find(','), names.size());
        by_name.emplace(names.substr(0, comma), static_cast<int>(i));
        names.remove_prefix(std::min(comma + 1, names.size()));
      }
    }
  }
};

Index& sets_by_name() {
  static Index index;
  return index;
}

}  // namespace

CharacterSet::CharacterSet(std::vector<uint32_t> ranges) : ranges_(std::move(ranges)) {
  for (size_t i = 1; i + 1 < ranges_.size(); i += 2)
    for (uint32_t c = ranges_[i]; c <= ranges_[i + 1] && c < 64 * kWords; ++c) low_[c / 64] |= uint64_t{1} << (c % 64);
}

int CharacterSet::index_of(std::string_view name) {
  const auto found = sets_by_name().by_name.find(name);
  return found == sets_by_name().by_name.end() ? -1 : found->second;
}

const CharacterSet& CharacterSet::at(int index) {
  Index& all = sets_by_name();
  const auto i = static_cast<size_t>(index);
  std::call_once(all.unpacked[i], [&] {
    const std::vector<uint32_t> numbers = unpack(packed_sets()[i].ranges);
    std::vector<uint32_t> ranges = {static_cast<uint32_t>(numbers.size() / 2)};
    for (uint32_t at = 0, k = 0; k + 1 < numbers.size(); k += 2) {
      ranges.push_back(at + numbers[k]);
      ranges.push_back(ranges.back() + numbers[k + 1]);
      at = ranges.back() + 1;
    }
    all.sets[i] = std::make_unique<CharacterSet>(std::move(ranges));
  });
  return *all.sets[i];
}

const CharacterSet* CharacterSet::find(std::string_view name) {
  const int index = index_of(name);
  return index < 0 ? nullptr : &at(index);
}

const CharacterSet& named_set(std::string_view name) {
  const CharacterSet* set = CharacterSet::find(name);
  CHECK(set != nullptr, "unicode_tables.cpp has this set", name);
  return *set;
}

bool CharacterSet::contains_high(uint32_t c) const {
  size_t low = 0, high = ranges_[0];  // the first range that does not end before c
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (ranges_[2 * middle + 2] < c)
      low = middle + 1;
    else
      high = middle;
  }
  return low < ranges_[0] && ranges_[2 * low + 1] <= c;
}

const std::vector<LowerCaseRun>& lower_case_runs() {
  static const std::vector<LowerCaseRun> runs = [] {
    const std::vector<uint32_t> numbers = unpack(packed_lower_case());
    std::vector<LowerCaseRun> made;
    int32_t at = 0;
    for (size_t i = 0; i + 3 < numbers.size(); i += 4) {
      LowerCaseRun run{};
      run.first = at + static_cast<int32_t>(numbers[i]);
      run.step = static_cast<int32_t>(numbers[i + 2]) + 1;
      run.last = run.first + static_cast<int32_t>(numbers[i + 1]) * run.step;
      const auto folded = static_cast<int32_t>(numbers[i + 3]);
      run.difference = folded % 2 == 0 ? folded / 2 : -(folded + 1) / 2;
      at = run.first;
      made.push_back(run);
    }
    return made;
  }();
  return runs;
}

}  // namespace carillon
