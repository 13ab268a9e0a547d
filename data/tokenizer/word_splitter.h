// Hand-written code for the split patterns of the GPT-2, Llama 3 and Qwen 2 families: the classes of a few characters
// determine each match, so that no regular expression engine is needed. Gives exactly the matches of Oniguruma, Hugging
// Face's engine; tests/data/word_splitter_test.cpp compares them on random text of every class.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace carillon {

class WordSplitter {
 public:
  // GPT-2's pattern (openai/gpt-2, encoder.py), the default of ByteLevel.
  static constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  static constexpr const char* kLlama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
      R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
  // One digit at a time.
  static constexpr const char* kQwen2 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
      R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

  // Returns nothing for any other pattern.
  static std::optional<WordSplitter> of(std::string_view pattern);

  // The end of the match that begins at `at` < text.size(). In well-formed text a match begins at every position, and
  // none is empty.
  size_t next(std::string_view text, size_t at) const { return gpt2_ ? next_gpt2(text, at) : next_llama(text, at); }

 private:
  WordSplitter(bool gpt2, int most_digits) : gpt2_(gpt2), most_digits_(most_digits) {}
  size_t next_gpt2(std::string_view text, size_t at) const;
  size_t next_llama(std::string_view text, size_t at) const;

  bool gpt2_;
  int most_digits_;
};

}  // namespace carillon
