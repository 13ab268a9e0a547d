// A tensor's hash that does not depend on how it was split: the sum over its elements of a 64-bit mix of the tensor's
// name, the element's index in the global tensor and its stored bits, modulo 2^64. Ranks hash their own rectangles and
// add up.
//   h = Σ_i fmix64(bits_i + (i + 1) · 0x9E3779B97F4A7C15 + XXH3_64(name))
// fmix64 is MurmurHash3's finaliser. Fixed for format version 1; data/README.md has a worked example.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/shard.h"

namespace carillon {

// Of one rectangle; `data`: its packed elements of `element_bytes` (1, 2, 4 or 8) each.
uint64_t hash_rectangle(const std::string& name, const Rectangle& rectangle, const void* data, int64_t element_bytes);

// "89abcdef01234567", as it stands in a manifest; and back (error 65 if it is no such text).
std::string hash_text(uint64_t hash);

// 128 bits of XXH3 over a text, 32 hexadecimal digits.
std::string text_hash(const std::string& text);

}  // namespace carillon
