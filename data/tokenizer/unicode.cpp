#include "data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "runtime/check.h"

namespace carillon {
namespace {

const utf8proc_uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const utf8proc_uint8_t*>(text.data());
}

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

}  // namespace

size_t first_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    if (is_ascii(text[at])) {
      ++at;
      continue;
    }
    utf8proc_int32_t code_point;
    const auto left = static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size() - at, 4));
    const utf8proc_ssize_t used = utf8proc_iterate(bytes_of(text) + at, left, &code_point);
    if (used <= 0) return at;
    at += static_cast<size_t>(used);
  }
  return std::string_view::npos;
}

int32_t next_code_point(std::string_view text, size_t& at) {
  if (is_ascii(text[at])) return text[at++];
  utf8proc_int32_t code_point;
  const auto left = static_cast<utf8proc_ssize_t>(std::min<size_t>(text.size() - at, 4));
  const utf8proc_ssize_t used = utf8proc_iterate(bytes_of(text) + at, left, &code_point);
  CHECK(used > 0, "text was checked to be UTF-8", at);
  at += static_cast<size_t>(used);
  return code_point;
}

int32_t previous_code_point(std::string_view text, size_t& at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  size_t begin = at;
  return next_code_point(text, begin);
}

void append_code_point(std::string& text, int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t count = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
}

bool is_white_space(int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_numeric(int32_t c) {
  const auto category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

bool is_word(int32_t c) {
  if (c == 0x200C || c == 0x200D) return true;
  // Alphabetic symbols that are neither letters nor marks: circled and squared Latin letters.
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189))
    return true;
  switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

std::string_view normalize(std::string_view text, NormalForm form, std::string& storage) {
  if (std::all_of(text.begin(), text.end(), is_ascii)) return text;
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::kNfc || form == NormalForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;

  // In parts, since utf8proc takes 4 bytes a code point. A cut before an ASCII character changes nothing: ASCII
  // neither composes with what stands before it nor is reordered.
  constexpr size_t kPartBytes = size_t{1} << 16;
  storage.clear();
  storage.reserve(text.size());
  while (!text.empty()) {
    size_t part = std::min(text.size(), kPartBytes);
    while (part < text.size() && !is_ascii(text[part])) ++part;
    utf8proc_uint8_t* normal = nullptr;
    const utf8proc_ssize_t count = utf8proc_map(bytes_of(text), static_cast<utf8proc_ssize_t>(part), &normal,
                                                static_cast<utf8proc_option_t>(options));
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normal, &std::free);
    CHECK(count >= 0, "utf8proc normalises well-formed text", utf8proc_errmsg(count));
    storage.append(reinterpret_cast<const char*>(normal), static_cast<size_t>(count));
    text.remove_prefix(part);
  }
  return storage;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t valid = std::min(first_invalid_utf8(bytes), bytes.size());
    text.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    // The maximal part: a lead byte and those continuation bytes that could still follow it (Unicode table 3-7).
    const auto byte = [&](size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
    const unsigned lead = byte(0);
    unsigned low = 0x80, high = 0xBF;
    size_t length = 1;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    const size_t wanted = lead >= 0xF0 && lead <= 0xF4 ? 4 : lead >= 0xE0 && lead < 0xF0 ? 3 : 1;
    while (length < wanted && byte(length) >= low && byte(length) <= high) {
      ++length;
      low = 0x80, high = 0xBF;
    }
    text += "\xEF\xBF\xBD";
    bytes.remove_prefix(std::min(length, bytes.size()));
  }
  return text;
}

}  // namespace carillon
