// Regular expressions of tokenizer files, executed by Oniguruma, the engine of Hugging Face's tokenizers, so that all
// syntax has the same meaning. (PCRE2 with its compiler is faster, but differs in \b, \w, \h, POSIX classes, {,n},
// {n}+, &&, nested classes and more. The patterns in common use have hand-written code, word_splitter.h.)
//
// Another version of Oniguruma than theirs would know other letters. So its encoding gets the character classes of
// unicode_tables.h: \p{…} of general categories, scripts and the usual binary properties, POSIX classes, \w, \d, \s,
// and which letters are equal when case is ignored. Refused by name when the file is opened: other properties (blocks,
// ages) and what depends on grapheme clusters (\X, \y, \Y), whose tables cannot be replaced.
//
// A pattern in a malicious file may take exponential time. Oniguruma's limit on retries (set as in the tokenizers
// library) and a limit on memory then stop it with error 65.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace carillon {

class RegularExpression {
 public:
  // `where` names the pattern's file in messages. Error 65 if it does not compile.
  RegularExpression(std::string_view pattern, std::string where);
  ~RegularExpression();
  RegularExpression(RegularExpression&&) noexcept;
  RegularExpression& operator=(RegularExpression&&) noexcept;

  // A pattern that matches exactly this text.
  static std::string escape(std::string_view text);

  struct Match {
    size_t begin;
    size_t end;
  };
  // Finds the first match at or after `from`; false if there is none. `text` must be well-formed UTF-8. Thread-safe.
  bool find(std::string_view text, size_t from, Match& match) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  std::string where_;
};

// Calls use(begin, end) for all matches in order, as the tokenizers library does: an empty match directly after another
// match is skipped.
template <class Use>
void for_each_match(const RegularExpression& expression, std::string_view text, const Use& use) {
  size_t from = 0, last_end = 0;
  bool any = false;
  RegularExpression::Match match{};
  while (from <= text.size() && expression.find(text, from, match)) {
    if (match.begin == match.end && any && match.end == last_end) {
      do ++from;  // one character further
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80);
      continue;
    }
    from = last_end = match.end;
    any = true;
    use(match.begin, match.end);
  }
}

}  // namespace carillon
