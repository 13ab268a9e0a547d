// The ids of recent words, for words of few bytes and few ids, which are nearly all. Two slots of 32 bytes share a
// cache line; a new word replaces the line's older one. So there are no chains and no growth, and each word needs one
// memory access. A map of strings, with nodes, keys and lists of ids in four places, took a third of the time of
// tokenising.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace carillon {

class WordCache {
 public:
  static constexpr size_t kLongest = 18;  // bytes of a word
  static constexpr size_t kMostIds = 3;

  // Returns an empty list if the word is not cached; cached words have at least one id.
  std::span<const uint32_t> find(std::string_view word, uint64_t hash) {
    if (word.size() > kLongest) return {};
    Line& line = lines_[hash % kLines];
    if (line.slot[0].is(word)) return line.slot[0].list();
    if (!line.slot[1].is(word)) return {};
    std::swap(line.slot[0], line.slot[1]);
    return line.slot[0].list();
  }
  void put(std::string_view word, uint64_t hash, std::span<const uint32_t> ids) {
    if (word.size() > kLongest || word.empty() || ids.size() > kMostIds || ids.empty()) return;
    Line& line = lines_[hash % kLines];
    line.slot[1] = line.slot[0];
    Slot& slot = line.slot[0];
    std::memcpy(slot.key, word.data(), word.size());
    std::memcpy(slot.ids, ids.data(), ids.size() * sizeof(uint32_t));
    slot.length = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(ids.size());
  }

 private:
  struct Slot {
    uint32_t ids[kMostIds];
    uint8_t length = 0;  // 0: empty
    uint8_t count;
    char key[kLongest];

    bool is(std::string_view word) const {
      return length == word.size() && std::memcmp(key, word.data(), word.size()) == 0;
    }
    std::span<const uint32_t> list() const { return {ids, count}; }
  };
  struct alignas(64) Line {
    Slot slot[2];
  };
  static_assert(sizeof(Line) == 64);
  static constexpr size_t kLines = size_t{1} << 15;  // 2 MiB: about the second-level cache

  std::vector<Line> lines_ = std::vector<Line>(kLines);
};

}  // namespace carillon
