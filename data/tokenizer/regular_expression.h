// Regular expressions of tokenizer files, run by PCRE2 with just-in-time compilation.
//
// The files mean Oniguruma's dialect (Hugging Face's engine). Where the two differ the pattern is translated: \s is the
// property White_Space (PCRE2 counts U+180E too), \w is UTS 18's. What PCRE2 would read differently and no known
// tokenizer uses is refused: class intersections and nested classes, \h, \W in a class, `{n,m}+`.
//
// A pattern from a hostile file can be built to take exponential time; PCRE2's match limit stops it with error 65.
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

}  // namespace carillon
