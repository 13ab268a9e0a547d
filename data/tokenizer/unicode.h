// The properties of Unicode text that tokenizers and readers need, as Hugging Face's tokenizers defines them (tables of
// unicode_tables.h; normal forms by utf8proc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace carillon {

// Offset of the first byte that is not part of well-formed UTF-8 (surrogates and overlong forms are not), or npos.
size_t first_invalid_utf8(std::string_view text);

// The code point at `at` of well-formed text; moves `at` past it.
int32_t next_code_point(std::string_view text, size_t& at);
// The code point that ends at `at`; moves `at` before it.
int32_t previous_code_point(std::string_view text, size_t& at);
void append_code_point(std::string& text, int32_t code_point);

bool is_white_space(int32_t code_point);  // the property White_Space: U+180E is not
bool is_numeric(int32_t code_point);      // general categories Nd, Nl, No
bool is_punctuation(int32_t code_point);  // P of Unicode 8, and all ASCII punctuation and symbols
bool is_word(int32_t code_point);         // \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control

// Appends the lower case of one character, or itself.
void append_lower_case(std::string& text, int32_t code_point);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// Returns `text` itself if it is ASCII, else its normal form in `storage`. Characters newer than Unicode 9 are
// unchanged.
std::string_view normalize(std::string_view text, NormalForm form, std::string& storage);

// Replaces each maximal ill-formed part by one U+FFFD, as recommended by the Unicode standard (and done by Rust's
// from_utf8_lossy).
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace carillon
