// Splitting a piece of text at matches: of a pattern (the field "pattern" of tokenizer.json: a regular expression or a
// string) or of single characters. The behaviour, named as in tokenizer.json, says what becomes of the matches. The
// result is exactly that of the tokenizers library, including its treatment of empty matches.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>

#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/regular_expression.h"
#include "data/tokenizer/unicode.h"

namespace carillon {

enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Error 65 for an unknown name.
Behavior parse_behavior(const std::string& name, const std::string& where);

// Joins matches and the gaps between them (some may be empty) as the behaviour says, and passes them on in order. With
// `invert` the gaps count as matches.
class Joiner {
 public:
  Joiner(const PreTokenizer::Piece& piece, Behavior behavior, bool invert, const PreTokenizer::Sink& sink)
      : piece_(piece), behavior_(behavior), invert_(invert), sink_(sink) {}

  void match(size_t begin, size_t end);  // bytes of the piece, after those of the match before
  void finish();

 private:
  void hand_out(size_t begin, size_t end);
  void part(size_t begin, size_t end, bool is_match);
  void join(bool joins, size_t begin, size_t end, bool is_match);

  const PreTokenizer::Piece& piece_;
  Behavior behavior_;
  bool invert_;
  const PreTokenizer::Sink& sink_;
  size_t done_ = 0, open_begin_ = 0, open_end_ = 0;
  bool has_open_ = false, open_is_match_ = false;
};

class Pattern {
 public:
  Pattern(const nlohmann::json& description, const std::string& where);
  explicit Pattern(const char* expression);

  void split(const PreTokenizer::Piece& piece, Behavior behavior, bool invert, const PreTokenizer::Sink& sink) const;
  // Absent unless the expression is one that a WordSplitter knows.
  const std::optional<WordSplitter>& splitter() const { return splitter_; }

 private:
  std::optional<RegularExpression> expression_;
  std::optional<WordSplitter> splitter_;
  std::string text_;
};

// Splits at the characters for which is_match returns true.
template <class IsMatch>
void split_at_characters(const PreTokenizer::Piece& piece, Behavior behavior, const PreTokenizer::Sink& sink,
                         const IsMatch& is_match) {
  Joiner joiner(piece, behavior, false, sink);
  for (size_t at = 0; at < piece.text.size();) {
    const size_t begin = at;
    if (is_match(next_code_point(piece.text, at))) joiner.match(begin, at);
  }
  joiner.finish();
}

}  // namespace carillon
