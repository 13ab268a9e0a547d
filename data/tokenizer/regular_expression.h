// Regular expressions of tokenizer files, run by Oniguruma, the engine of Hugging Face's tokenizers: so every word of
// its dialect means here what it means there. (PCRE2 with its compiler is faster, but differs from it in \b, \w, \h,
// POSIX classes, {,n}, {n}+, &&, nested classes and more; the patterns in common use are run by hand,
// word_splitter.h.)
//
// Of another version than theirs Oniguruma would know other letters. Its encoding is therefore given the character
// classes of unicode_tables.h: \p{…} of general categories, scripts and the usual binary properties, POSIX classes, \w,
// \d, \s, and which letters fold together. Refused by name when the file is opened: other properties (blocks, ages) and
// what goes by grapheme clusters (\X, \y, \Y), whose tables cannot be given.
//
// A pattern from a hostile file can be built to take exponential time; Oniguruma's own limit of retries (as in the
// tokenizers library) and one of memory stop it with error 65.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace carillon {

class RegularExpression {
 public:
  // where: the file the pattern is from, for messages. Error 65 if it does not compile.
  RegularExpression(std::string_view pattern, std::string where);
  ~RegularExpression();
  RegularExpression(RegularExpression&&) noexcept;
  RegularExpression& operator=(RegularExpression&&) noexcept;

  // A pattern that matches just this text.
  static std::string escape(std::string_view text);

  struct Match {
    size_t begin;
    size_t end;
  };
  // The first match at or after `from`; false when there is none. `text` must be well-formed UTF-8. Thread-safe.
  bool find(std::string_view text, size_t from, Match& match) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  std::string where_;
};

// Calls use(begin, end) for all matches in order, as the tokenizers library finds them: an empty one that follows
// another match at once does not count.
template <class Use>
void for_each_match(const RegularExpression& expression, std::string_view text, const Use& use) {
  size_t from = 0, last_end = 0;
  bool any = false;
  RegularExpression::Match match{};
  while (from <= text.size() && expression.find(text, from, match)) {
    if (match.begin == match.end && any && match.end == last_end) {
      do ++from;  // a character further
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80);
      continue;
    }
    from = last_end = match.end;
    any = true;
    use(match.begin, match.end);
  }
}

}  // namespace carillon
