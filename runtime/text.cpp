#include "runtime/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace carillon {
namespace {

// The length of the well-formed UTF-8 sequence at the start of `text` (RFC 3629: no overlong forms, no surrogates); 0
// if there is none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
  const bool surrogate = first == 0xED && byte(1) >= 0xA0;
  const bool too_large = first == 0xF4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

// The code of a character that shows nothing or turns the direction of what follows, so that one name passes for
// another: U+200B, U+200E, U+200F, U+2028 … U+202E, U+2060 … U+206F, U+FEFF. 0 for others; those that join letters and
// emoji (U+200C, U+200D) belong to names.
uint32_t hidden_character(std::string_view sequence) {
  if (sequence.size() != 3) return 0;
  uint32_t code = 0;
  for (const char c : sequence) code = code << 6 | (static_cast<unsigned char>(c) & 0x3F);
  code &= 0xFFFF;
  const bool hidden = code == 0x200B || code == 0x200E || code == 0x200F || (code >= 0x2028 && code <= 0x202E) ||
                      (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF;
  return hidden ? code : 0;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    // C1 controls are U+0080 … U+009F: C2 80 … C2 9F.
    const bool c1 = length == 2 && byte == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
    if (const uint32_t hidden = hidden_character(text.substr(0, length)); hidden != 0) {
      result += fmt::format("\\u{:04x}", hidden);
    } else if (byte == '\n') {
      result += "\\n";
    } else if (byte == '\r') {
      result += "\\r";
    } else if (byte == '\t') {
      result += "\\t";
    } else if (c1) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[1]));
    } else if (length == 0 || byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string canonical(std::string_view name) {
  std::string result(name);
  for (char& c : result) c = c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

int edit_distance(std::string_view a_text, std::string_view b_text) {
  const std::string a = canonical(a_text);
  const std::string b = canonical(b_text);
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
  // Comparing a hostile name of a megabyte with every candidate would take seconds; no candidate is longer than this.
  const std::string_view head = name.substr(0, 128);
  std::string best;
  int best_distance = std::numeric_limits<int>::max();
  for (const std::string& candidate : candidates) {
    const int distance = edit_distance(head, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  return fmt::format("{}", fmt::join(parts, separator));
}

}  // namespace carillon
