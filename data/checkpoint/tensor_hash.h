// A hash of a tensor that does not depend on how the tensor is split: the sum modulo 2^64, over its elements, of a
// 64-bit mix of the tensor's name, the element's index in the global tensor and its stored bits. Ranks hash their own
// rectangles and add up the results.
//   h = Σ_i fmix64(bits_i + (i + 1) · 0x9E3779B97F4A7C15 + XXH3_64(name))
// fmix64 is MurmurHash3's finaliser. The definition is fixed for format version 1 and repeated in data/README.md.
#pragma once

#include <cstdint>
#include <string>

#include "parallel/shard.h"

namespace carillon {

// The hash of one rectangle; `data` holds its packed elements of `element_bytes` (1, 2, 4 or 8) each.
uint64_t hash_rectangle(const std::string& name, const Rectangle& rectangle, const void* data, int64_t element_bytes);

// Formats a hash as in the manifest: "89abcdef01234567".
std::string format_hash(uint64_t hash);

// The 128-bit XXH3 of a text as 32 hexadecimal digits.
std::string hash_of_text(const std::string& text);

}  // namespace carillon
