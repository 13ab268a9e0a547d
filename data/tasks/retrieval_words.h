// Our own words and sentences for prompts.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace carillon {

// A name for each number in [0, 262144): "amber-harbour", "amber-quiet-harbour" …
std::string word_of(int64_t number);
inline constexpr int64_t kWords = 64 * 64 * 64;

// Five short sentences; repeated, they form a haystack without information.
const std::vector<std::string>& plain_sentences();
// A sentence for each pair of numbers, for haystacks that do not repeat.
std::string sentence_of(int64_t a, int64_t b);

// Returns the largest haystack size with room(size) >= 0. room must decrease with the size and be >= 0 at 0.
int64_t largest_with_room(const std::function<int64_t(int64_t size)>& room);

}  // namespace carillon
