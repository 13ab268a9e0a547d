#include "data/chat/text.h"

#include <string.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "data/chat/case_table.h"

namespace carillon::jinja {

int32_t next_character(std::string_view text, size_t& at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) {
    ++at;
    return first;
  }
  const size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1;
  int32_t code = first & (size == 4 ? 0x07 : size == 3 ? 0x0F : size == 2 ? 0x1F : 0x7F);
  size_t used = 1;
  for (; used < size && at + used < text.size(); ++used) {
    const auto byte = static_cast<unsigned char>(text[at + used]);
    if ((byte & 0xC0) != 0x80) break;
    code = code << 6 | (byte & 0x3F);
  }
  at += used;
  return used == size && size > 1 ? code : 0xFFFD;
}

void append_character(std::string& text, int32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto size = utf8proc_encode_char(code, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

int64_t code_points(std::string_view text) {
  int64_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
  return count;
}

size_t byte_offset(std::string_view text, int64_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80 && index-- == 0) break;
  return at;
}

bool is_space(int32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}
bool is_printable(int32_t code) {
  if (code == ' ') return true;
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}
bool is_letter(int32_t code) {
  const auto category = utf8proc_category(code);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(int32_t code) { return utf8proc_category(code) == UTF8PROC_CATEGORY_ND; }
bool is_digit(int32_t code) {
  return is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 || code == 0x2070 ||
         (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089) ||
         (code >= 0x2460 && code <= 0x2468) || (code >= 0x2474 && code <= 0x247C) || (code >= 0x2488 && code <= 0x2490);
}
bool is_numeral(int32_t code) {
  const auto category = utf8proc_category(code);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}
bool is_lower(int32_t code) { return utf8proc_category(code) == UTF8PROC_CATEGORY_LL || code == 0xAA || code == 0xBA; }
bool is_upper(int32_t code) { return utf8proc_category(code) == UTF8PROC_CATEGORY_LU; }
bool is_word_character(int32_t code) { return code == '_' || is_letter(code) || is_numeral(code); }

bool all_are(std::string_view text, bool (*is)(int32_t)) {
  for (size_t at = 0; at < text.size();)
    if (!is(next_character(text, at))) return false;
  return !text.empty();
}
bool lower_text(std::string_view text) {
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const int32_t code = next_character(text, at);
    if (is_upper(code) || utf8proc_category(code) == UTF8PROC_CATEGORY_LT) return false;
    any = any || is_lower(code);
  }
  return any;
}
bool upper_text(std::string_view text) {
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const int32_t code = next_character(text, at);
    if (is_lower(code) || utf8proc_category(code) == UTF8PROC_CATEGORY_LT) return false;
    any = any || is_upper(code);
  }
  return any;
}
bool title_text(std::string_view text) {
  bool any = false, cased = false;
  for (size_t at = 0; at < text.size();) {
    const int32_t code = next_character(text, at);
    if (is_upper(code) || utf8proc_category(code) == UTF8PROC_CATEGORY_LT) {
      if (cased) return false;
      any = cased = true;
    } else if (is_lower(code)) {
      if (!cased) return false;
      any = true;
    } else {
      cased = false;
    }
  }
  return any;
}
bool is_identifier(std::string_view text) {
  bool first = true;
  for (size_t at = 0; at < text.size(); first = false) {
    const int32_t code = next_character(text, at);
    const auto category = utf8proc_category(code);
    const bool start = code == '_' || is_letter(code) || category == UTF8PROC_CATEGORY_NL;
    const bool further = category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
                         category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_PC;
    if (!start && (first || !further)) return false;
  }
  return !first;
}

namespace {

const SpecialCase* special_case(int32_t code) {
  const auto* found =
      std::lower_bound(std::begin(kSpecialCases), std::end(kSpecialCases), code,
                       [](const SpecialCase& special, int32_t wanted) { return special.code < wanted; });
  return found != std::end(kSpecialCases) && found->code == code ? found : nullptr;
}
void append_upper(std::string& text, int32_t code) {
  if (const SpecialCase* special = code < 0x80 ? nullptr : special_case(code))
    text += special->upper;
  else
    append_character(text, utf8proc_toupper(code));
}
void append_title(std::string& text, int32_t code) {
  if (const SpecialCase* special = code < 0x80 ? nullptr : special_case(code))
    text += special->title;
  else
    append_character(text, utf8proc_totitle(code));
}

bool is_cased(int32_t code) {
  return is_lower(code) || is_upper(code) || utf8proc_category(code) == UTF8PROC_CATEGORY_LT;
}
bool is_case_ignorable(int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return code == '\'' || code == '.' || code == ':' || code == 0xB7 || code == 0x2018 || code == 0x2019 ||
             code == 0x2024 || code == 0x2027;
  }
}

// `at` is the offset after the character.
void append_lower(std::string& text, int32_t code, std::string_view whole, size_t from, size_t at) {
  if (code == 0x130) {
    text += "i\u0307";
  } else if (code == 0x3A3) {
    // Unicode's Final_Sigma: preceded by a cased letter and not followed by one, skipping case-ignorable characters.
    bool before = false, behind = false;
    for (size_t i = from; i > 0;) {
      do --i;
      while (i > 0 && (static_cast<unsigned char>(whole[i]) & 0xC0) == 0x80);
      size_t next = i;
      const int32_t other = next_character(whole, next);
      if (is_case_ignorable(other)) continue;
      before = is_cased(other);
      break;
    }
    while (at < whole.size()) {
      const int32_t other = next_character(whole, at);
      if (is_case_ignorable(other)) continue;
      behind = is_cased(other);
      break;
    }
    append_character(text, before && !behind ? 0x3C2 : 0x3C3);
  } else {
    append_character(text, utf8proc_tolower(code));
  }
}

}  // namespace

std::string upper(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) append_upper(result, next_character(text, at));
  return result;
}
std::string lower(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    append_lower(result, code, text, from, at);
  }
  return result;
}
std::string capitalize(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    if (from == 0)
      append_title(result, code);
    else
      append_lower(result, code, text, from, at);
  }
  return result;
}
std::string title(std::string_view text) {
  std::string result;
  bool inside = false;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    if (inside)
      append_lower(result, code, text, from, at);
    else
      append_title(result, code);
    inside = is_cased(code);
  }
  return result;
}
std::string swap_case(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const size_t from = at;
    const int32_t code = next_character(text, at);
    if (is_upper(code))
      append_lower(result, code, text, from, at);
    else if (is_lower(code))
      append_upper(result, code);
    else
      append_character(result, code);
  }
  return result;
}
std::string case_fold(std::string_view text) {
  utf8proc_uint8_t* folded = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &folded, UTF8PROC_CASEFOLD);
  if (size < 0) return std::string(text);
  std::string result(reinterpret_cast<char*>(folded), static_cast<size_t>(size));
  free(folded);
  return result;
}

std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> characters) {
  std::vector<int32_t> wanted;
  if (characters)
    for (size_t at = 0; at < characters->size();) wanted.push_back(next_character(*characters, at));
  const auto goes = [&](int32_t code) {
    return characters ? std::find(wanted.begin(), wanted.end(), code) != wanted.end() : is_space(code);
  };
  if (side != Side::kRight) {
    size_t from = 0;
    for (size_t at = 0; at < text.size(); from = at)
      if (!goes(next_character(text, at))) break;
    text.remove_prefix(from);
  }
  if (side != Side::kLeft) {
    while (!text.empty()) {
      size_t from = text.size() - 1;
      while (from > 0 && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) --from;
      size_t at = from;
      if (!goes(next_character(text, at))) break;
      text = text.substr(0, from);
    }
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator, int64_t limit) {
  std::vector<std::string_view> parts;
  if (separator) {
    size_t from = 0;
    while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
      const size_t at = find_text(text, *separator, from);
      if (at == std::string_view::npos) break;
      parts.push_back(text.substr(from, at - from));
      from = at + separator->size();
    }
    parts.push_back(text.substr(from));
    return parts;
  }
  text = strip(text, Side::kLeft);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<int64_t>(parts.size()) >= limit) {
      parts.push_back(text);  // keeps trailing white space
      break;
    }
    size_t end = text.size();
    for (size_t at = 0; at < text.size();) {
      const size_t from = at;
      if (is_space(next_character(text, at))) {
        end = from;
        break;
      }
    }
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), Side::kLeft);
  }
  return parts;
}

std::vector<std::string_view> split_right(std::string_view text, std::optional<std::string_view> separator,
                                          int64_t limit) {
  std::vector<std::string_view> parts;
  const auto full = [&] { return limit >= 0 && static_cast<int64_t>(parts.size()) >= limit; };
  if (separator) {
    // Searches the reversed texts forwards, which takes linear time.
    const std::string mirrored(text.rbegin(), text.rend()), wanted(separator->rbegin(), separator->rend());
    size_t from = 0;
    while (!full()) {
      const size_t at = find_text(mirrored, wanted, from);
      if (at == std::string_view::npos) break;
      parts.push_back(text.substr(text.size() - at, at - from));
      from = at + wanted.size();
    }
    parts.push_back(text.substr(0, text.size() - from));
  } else {
    text = strip(text, Side::kRight);
    while (!text.empty()) {
      if (full()) {
        parts.push_back(text);
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        size_t from = begin - 1;
        while (from > 0 && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) --from;
        size_t at = from;
        if (is_space(next_character(text, at))) break;
        begin = from;
      }
      parts.push_back(text.substr(begin));
      text = strip(text.substr(0, begin), Side::kRight);
    }
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  for (size_t from = 0, at = 0; at < text.size();) {
    const size_t end = at;
    const int32_t code = next_character(text, at);
    const bool breaks = (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
                        code == 0x2028 || code == 0x2029;
    if (breaks) {
      if (code == '\r' && at < text.size() && text[at] == '\n') ++at;
      lines.push_back(text.substr(from, (keep_ends ? at : end) - from));
      from = at;
    } else if (at >= text.size()) {
      lines.push_back(text.substr(from));
    }
  }
  return lines;
}

size_t find_text(std::string_view text, std::string_view part, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (part.empty()) return from;
  const void* found = memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found == nullptr ? std::string_view::npos : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}
size_t find_last(std::string_view text, std::string_view part) {
  // Searches the reversed texts, so that it takes linear time.
  if (part.size() > text.size()) return std::string_view::npos;
  if (part.size() == 1) return text.rfind(part[0]);
  if (part.size() <= 64) return text.rfind(part);
  const std::string mirrored(text.rbegin(), text.rend()), wanted(part.rbegin(), part.rend());
  const size_t found = find_text(mirrored, wanted);
  return found == std::string_view::npos ? found : text.size() - found - part.size();
}

std::string replace_text(std::string_view text, std::string_view old, std::string_view fresh, int64_t limit) {
  std::string result;
  if (old.empty()) {
    for (size_t at = 0; limit != 0;) {
      result += fresh;
      if (limit > 0) --limit;
      const size_t from = at;
      if (at < text.size()) next_character(text, at);
      result += text.substr(from, at - from);
      if (from == at || limit == 0) return result += text.substr(at);
    }
    return std::string(text);
  }
  size_t from = 0;
  for (size_t at; limit != 0 && (at = find_text(text, old, from)) != std::string_view::npos; from = at + old.size()) {
    result += text.substr(from, at - from);
    result += fresh;
    if (limit > 0) --limit;
  }
  return result += text.substr(from);
}

int64_t count_text(std::string_view text, std::string_view part) {
  if (part.empty()) return code_points(text) + 1;
  int64_t count = 0;
  for (size_t at = 0; (at = find_text(text, part, at)) != std::string_view::npos; at += part.size()) ++count;
  return count;
}

std::string escape_html(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '&')
      result += "&amp;";
    else if (c == '<')
      result += "&lt;";
    else if (c == '>')
      result += "&gt;";
    else if (c == '"')
      result += "&#34;";
    else if (c == '\'')
      result += "&#39;";
    else
      result += c;
  }
  return result;
}

}  // namespace carillon::jinja
