// Python's str on UTF-8: indexes and lengths are code points, white space, cases and classes those of Python 3. Texts
// are well-formed. Nothing here knows of templates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace carillon::jinja {

int32_t next_character(std::string_view text, size_t& at);  // `at` moves past it
void append_character(std::string& text, int32_t code);
int64_t code_points(std::string_view text);
// Offset in bytes of the character with this index; the size of the text when it has no more than `index`.
size_t byte_offset(std::string_view text, int64_t index);

bool is_space(int32_t code);      // str.isspace
bool is_printable(int32_t code);  // str.isprintable
bool is_letter(int32_t code);     // str.isalpha
bool is_decimal(int32_t code);
bool is_digit(int32_t code);
bool is_numeral(int32_t code);  // str.isnumeric
bool is_lower(int32_t code);
bool is_upper(int32_t code);
bool is_word_character(int32_t code);  // \w of re
// What of a text must hold: all characters, and at least one.
bool all_are(std::string_view text, bool (*is)(int32_t));
bool lower_text(std::string_view text);  // str.islower: no upper or title case, at least one lower
bool upper_text(std::string_view text);
bool title_text(std::string_view text);
bool is_identifier(std::string_view text);

std::string upper(std::string_view text);
std::string lower(std::string_view text);  // a capital sigma at a word's end as Python writes it
std::string capitalize(std::string_view text);
std::string title(std::string_view text);  // str.title; the filter has its own
std::string swap_case(std::string_view text);
std::string case_fold(std::string_view text);

enum class Side { kLeft, kRight, kBoth };
// `characters`: those to take away; none: white space.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters = {});
// At most `limit` cuts, negative: no bound. Without a separator at runs of white space.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator,
                                          int64_t limit);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

// Offset in bytes at or after `from`, or npos; linear whatever the texts are.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);
size_t find_last(std::string_view text, std::string_view part);
// At most `limit` replacements, negative: all.
std::string replace_text(std::string_view text, std::string_view old, std::string_view fresh, int64_t limit);
int64_t count_text(std::string_view text, std::string_view part);
std::string escape_html(std::string_view text);  // as markupsafe

}  // namespace carillon::jinja
