// The hand-written splitter against Oniguruma, match by match.
#include "data/tokenizer/word_splitter.h"

#include <gtest/gtest.h>

#include <random>

#include "data/tokenizer/regular_expression.h"
#include "data/tokenizer/unicode.h"

namespace carillon::testing {
namespace {

class WordSplitterTest : public ::testing::TestWithParam<const char*> {
 protected:
  void expect_equal(const std::string& text) const {
    for (size_t at = 0; at < text.size();) {
      RegularExpression::Match match{};
      ASSERT_TRUE(expression_.find(text, at, match));
      ASSERT_EQ(match.begin, at) << ::testing::PrintToString(text);
      const size_t end = splitter_.next(text, at);
      ASSERT_EQ(end, match.end) << "from " << at << " of " << ::testing::PrintToString(text);
      at = end;
    }
  }
  RegularExpression expression_{GetParam(), "the test"};
  WordSplitter splitter_ = *WordSplitter::of(GetParam());
};

// Every code point alone, before a letter and after a space, which determines its class.
TEST_P(WordSplitterTest, EveryCodePoint) {
  for (int32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_code_point(text, c);
    text += "a1 ";
    append_code_point(text, c);
    text += "\n";
    append_code_point(text, c);
    append_code_point(text, c);
    expect_equal(text);
    if (HasFatalFailure()) FAIL() << "code point " << c;
  }
}

TEST_P(WordSplitterTest, RandomText) {
  const std::vector<std::string> parts = {
      " ", " ",  "  ", "\t",      "\n",  "\r",  "\r\n",   "\u00a0", "\u2003", "\u3000", "\u180e",
      "'", "'s", "'S", "'T",      "'re", "'VE", "'Ll",    "'ſ",     "'d",     "'x",     "ſ",
      "a", "Z",  "é",  "e\u0301", "ß",   "日",  "本",     "क्",      "1",      "٣",      "²",
      "Ⅷ", "-",  "!",  "…",       "_",   "😀",   "\u200d", "\u200b", "\x01",   "\x7f",   "\u0300"};
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (uint32_t i = random() % 24 + 1; i > 0; --i) {
      if (random() % 8 > 0) {
        text += parts[random() % parts.size()];
      } else {
        const auto c = static_cast<int32_t>(random() % 0x110000);
        append_code_point(text, c >= 0xD800 && c < 0xE000 ? 'k' : c);
      }
    }
    expect_equal(text);
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Patterns, WordSplitterTest,
                         ::testing::Values(WordSplitter::kGpt2, WordSplitter::kLlama3, WordSplitter::kQwen2));

TEST(WordSplitter, OtherPatternsAreLeftToTheEngine) { EXPECT_FALSE(WordSplitter::of(R"(\p{L}+|\s+)")); }

}  // namespace
}  // namespace carillon::testing
