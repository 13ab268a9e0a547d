#include "data/tokenizer/word_splitter.h"

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/tokenizer/character_set.h"

namespace carillon {
namespace {

enum Class : uint8_t { kLetter, kNumber, kSpace, kOther, kEnd };

void mark(std::vector<uint8_t>& table, std::string_view name, Class kind) {
  const std::vector<uint32_t>& ranges = named_set(name).ranges();
  for (size_t i = 1; i < ranges.size(); i += 2)
    for (uint32_t c = ranges[i]; c <= ranges[i + 1]; ++c) table[c] = kind;
}

// One byte per code point: 1.1 MB, of which a text uses a few pages.
const uint8_t* classes() {
  static const std::vector<uint8_t> table = [] {
    std::vector<uint8_t> made(0x110000, kOther);
    mark(made, "l", kLetter);
    mark(made, "n", kNumber);
    mark(made, "posix space", kSpace);
    return made;
  }();
  return table.data();
}

struct Reader {
  const unsigned char* bytes;
  size_t size;
  const uint8_t* table = classes();

  explicit Reader(std::string_view text)
      : bytes(reinterpret_cast<const unsigned char*>(text.data())), size(text.size()) {}

  // Returns the class of the character at `at` and sets `end`. The text is well-formed, so every lead byte has its
  // continuation bytes.
  Class read(size_t at, size_t& end) const {
    if (at >= size) {
      end = at;
      return kEnd;
    }
    const uint32_t a = bytes[at];
    uint32_t c = a;
    if (a < 0x80) {
      end = at + 1;
    } else if (a < 0xE0) {
      c = (a & 0x1F) << 6 | (bytes[at + 1] & 0x3Fu);
      end = at + 2;
    } else if (a < 0xF0) {
      c = (a & 0x0F) << 12 | (bytes[at + 1] & 0x3Fu) << 6 | (bytes[at + 2] & 0x3Fu);
      end = at + 3;
    } else {
      c = (a & 0x07) << 18 | (bytes[at + 1] & 0x3Fu) << 12 | (bytes[at + 2] & 0x3Fu) << 6 | (bytes[at + 3] & 0x3Fu);
      end = at + 4;
    }
    return static_cast<Class>(table[c]);
  }
  // The end of a run of one class that continues at `at`.
  size_t run(Class wanted, size_t at) const {
    for (size_t end; read(at, end) == wanted;) at = end;
    return at;
  }
  bool newline(size_t at) const { return at < size && (bytes[at] == '\n' || bytes[at] == '\r'); }
  unsigned char byte(size_t at, bool fold) const {
    const unsigned char c = at < size ? bytes[at] : 0;
    return fold && c >= 'A' && c <= 'Z' ? c + 32 : c;
  }

  // The end of 's 't 're 've 'm 'll 'd, or 0; `at` is the apostrophe. If case is folded, the long s (U+017F) counts as
  // s.
  size_t contraction(size_t at, bool fold) const {
    const unsigned char one = byte(at + 1, fold), two = byte(at + 2, fold);
    if (one == 's' || one == 't' || one == 'm' || one == 'd') return at + 2;
    if ((one == 'r' && two == 'e') || (one == 'v' && two == 'e') || (one == 'l' && two == 'l')) return at + 3;
    if (fold && one == 0xC5 && two == 0xBF) return at + 3;
    return 0;
  }
  // \s+(?!\S)|\s+ : white space except its last character, which belongs to the following word; a single one is a
  // match.
  size_t space(size_t at, size_t run_end) const {
    if (run_end == size) return run_end;
    size_t last = run_end;
    do --last;
    while ((bytes[last] & 0xC0) == 0x80);
    return last > at ? last : run_end;
  }
};

}  // namespace

std::optional<WordSplitter> WordSplitter::of(std::string_view pattern) {
  if (pattern == kGpt2) return WordSplitter(true, 0);
  if (pattern == kLlama3) return WordSplitter(false, 3);
  if (pattern == kQwen2) return WordSplitter(false, 1);
  return std::nullopt;
}

size_t WordSplitter::next_gpt2(std::string_view text, size_t at) const {
  const Reader reader(text);
  if (text[at] == '\'')
    if (const size_t end = reader.contraction(at, false)) return end;
  size_t end;
  Class kind = reader.read(at, end);
  if (text[at] == ' ') {  // the optional space before a word
    size_t behind;
    const Class following = reader.read(end, behind);
    if (following < kSpace || following == kOther) kind = following, end = behind;
  }
  const size_t run_end = reader.run(kind, end);
  return kind == kSpace ? reader.space(at, run_end) : run_end;
}

size_t WordSplitter::next_llama(std::string_view text, size_t at) const {
  const Reader reader(text);
  if (text[at] == '\'')
    if (const size_t end = reader.contraction(at, true)) return end;
  size_t end, behind;
  const Class kind = reader.read(at, end);
  if (kind == kLetter) return reader.run(kLetter, end);
  if (kind == kNumber) {
    for (int digits = 1; digits < most_digits_ && reader.read(end, behind) == kNumber; ++digits) end = behind;
    return end;
  }
  const Class following = reader.read(end, behind);
  if (following == kLetter && !reader.newline(at)) return reader.run(kLetter, behind);
  if (kind == kOther || (text[at] == ' ' && following == kOther)) {
    end = reader.run(kOther, kind == kOther ? end : behind);
    while (reader.newline(end)) ++end;
    return end;
  }
  // White space up to and including the last line break of the run; without one, as in GPT-2.
  const size_t run_end = reader.run(kSpace, end);
  for (size_t i = run_end; i-- > at;)
    if (reader.newline(i)) return i + 1;
  return reader.space(at, run_end);
}

}  // namespace carillon
