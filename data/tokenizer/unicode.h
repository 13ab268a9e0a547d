// The few properties of Unicode text that tokenizers and readers ask for: as Hugging Face's tokenizers sees them, by
// the tables of unicode_tables.h; normal forms by utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace carillon {

// Offset of the first byte that does not belong to well-formed UTF-8 (surrogates and overlong forms are not), or npos.
size_t first_invalid_utf8(std::string_view text);

// Code point at `at` of well-formed text; `at` moves past it.
int32_t next_code_point(std::string_view text, size_t& at);
// Code point that ends at `at`; `at` moves before it.
int32_t previous_code_point(std::string_view text, size_t& at);
void append_code_point(std::string& text, int32_t code_point);

bool is_white_space(int32_t code_point);  // the property White_Space: U+180E is not
bool is_numeric(int32_t code_point);      // general categories Nd, Nl, No
bool is_punctuation(int32_t code_point);  // P of Unicode 8, and all of ASCII's punctuation and symbols
bool is_word(int32_t code_point);         // \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control

// Appends the lower case of one character, or itself.
void append_lower_case(std::string& text, int32_t code_point);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// `text` itself when it is ASCII, else its normal form in `storage`. Characters newer than Unicode 9 stay as they are.
std::string_view normalize(std::string_view text, NormalForm form, std::string& storage);

// Each maximal ill-formed part becomes one U+FFFD, as the Unicode standard recommends (and Rust's from_utf8_lossy
// does).
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace carillon
