#include "data/tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "data/tokenizer/character_set.h"
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
  static const CharacterSet& set = named_set("rust numeric");
  return set.contains(c);
}

bool is_punctuation(int32_t c) {
  static const CharacterSet& set = named_set("rust punctuation");
  return set.contains(c);
}

bool is_word(int32_t c) {
  static const CharacterSet& set = named_set("posix word");
  return set.contains(c) || c == 0x200C || c == 0x200D;
}

void append_lower_case(std::string& text, int32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    return;
  }
  if (c == 0x130) {  // the only character whose lower case is two characters
    text += "i\u0307";
    return;
  }
  const std::vector<LowerCaseRun>& runs = lower_case_runs();
  auto run =
      std::upper_bound(runs.begin(), runs.end(), c, [](int32_t at, const LowerCaseRun& r) { return at < r.first; });
  if (run != runs.begin() && (--run)->last >= c && (c - run->first) % run->step == 0) c += run->difference;
  append_code_point(text, c);
}

namespace {

// Appends the normal form of a text without characters newer than Unicode 9.
void append_normal_form(std::string_view text, int options, std::string& storage) {
  // Works in parts, because utf8proc needs 4 bytes per code point. A cut before an ASCII character changes nothing:
  // ASCII neither combines with what precedes it nor is reordered.
  constexpr size_t kPartBytes = size_t{1} << 16;
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
}

}  // namespace

std::string_view normalize(std::string_view text, NormalForm form, std::string& storage) {
  if (std::all_of(text.begin(), text.end(), is_ascii)) return text;
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::kNfc || form == NormalForm::kNfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;

  static const CharacterSet& newer = named_set("rust unnormalised");
  storage.clear();
  storage.reserve(text.size());
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!newer.contains(next_code_point(text, at))) continue;
    append_normal_form(text.substr(done, begin - done), options, storage);
    storage += text.substr(begin, at - begin);
    done = at;
  }
  append_normal_form(text.substr(done), options, storage);
  return storage;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t valid = std::min(first_invalid_utf8(bytes), bytes.size());
    text.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    // The maximal part: a lead byte and the continuation bytes that may follow it (Unicode table 3-7).
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
