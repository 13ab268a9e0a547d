// Python's str on UTF-8: indexes and lengths count code points; white space, case and character classes are those of
// Python 3. Texts must be well-formed. Independent of templates.
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
// Byte offset of the character with this index; the text's size if it has at most `index` characters.
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
// Whether the text has at least one character and all of them are of this class.
bool all_are(std::string_view text, bool (*is)(int32_t));
bool lower_text(std::string_view text);  // str.islower: no upper or title case, at least one lower
bool upper_text(std::string_view text);
bool title_text(std::string_view text);
bool is_identifier(std::string_view text);

std::string upper(std::string_view text);
std::string lower(std::string_view text);  // a capital sigma at the end of a word becomes the final form, as in Python
std::string capitalize(std::string_view text);
std::string title(std::string_view text);  // str.title; the filter `title` differs
std::string swap_case(std::string_view text);
std::string case_fold(std::string_view text);

enum class Side { kLeft, kRight, kBoth };
// `characters` are the ones to remove; none: white space.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters = {});
// Makes at most `limit` cuts (negative: unlimited). Without a separator cuts at runs of white space.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator,
                                          int64_t limit);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

// Byte offset of the first match at or after `from`, or npos; takes linear time for any texts.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);
size_t find_last(std::string_view text, std::string_view part);
// Makes at most `limit` replacements (negative: all).
std::string replace_text(std::string_view text, std::string_view old, std::string_view fresh, int64_t limit);
int64_t count_text(std::string_view text, std::string_view part);
std::string escape_html(std::string_view text);  // like markupsafe

}  // namespace carillon::jinja
