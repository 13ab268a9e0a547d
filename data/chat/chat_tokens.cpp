#include "data/chat/chat_tokens.h"

#include <algorithm>
#include <span>

#include "data/chat/text.h"
#include "data/tokenizer/unicode.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A character has at most four bytes, so more tokens than these never share one.
constexpr size_t kLongestRun = 64;

// The text that tokens [from, to) add to that of the preceding token.
std::string piece(const Tokenizer& tokenizer, const std::vector<uint32_t>& tokens, size_t from, size_t to) {
  const std::span<const uint32_t> all(tokens);
  if (from == 0) return tokenizer.decode(all.subspan(0, to), false);
  const std::string before = tokenizer.decode(all.subspan(from - 1, 1), false);
  const std::string both = tokenizer.decode(all.subspan(from - 1, to - from + 1), false);
  // The preceding token may end inside a character; its text alone is then different.
  return both.starts_with(before) ? both.substr(before.size()) : tokenizer.decode(all.subspan(from, to - from), false);
}

}  // namespace

std::optional<std::vector<std::pair<size_t, size_t>>> token_ranges(std::string_view text,
                                                                   const std::vector<uint32_t>& tokens,
                                                                   const Tokenizer& tokenizer) {
  std::vector<std::pair<size_t, size_t>> ranges;
  size_t at = 0;
  for (size_t i = 0; i < tokens.size();) {
    bool found = false;
    for (size_t j = i + 1; j <= std::min(tokens.size(), i + kLongestRun) && !found; ++j) {
      const std::string spelled = piece(tokenizer, tokens, i, j);
      const bool broken = spelled.find(kReplacement) != std::string::npos;
      // Skips white space that is only in the text: an added token may have swallowed it, or it only precedes words.
      size_t begin = at;
      while (begin < text.size() && !text.substr(begin).starts_with(spelled)) {
        size_t next = begin;
        if (!jinja::is_space(jinja::next_character(text, next))) break;
        begin = next;
      }
      if (spelled.empty() || !text.substr(begin).starts_with(spelled)) {
        if (!broken && j - i > 8) break;
        continue;
      }
      const size_t end = begin + spelled.size();
      if (j == i + 1) {
        ranges.emplace_back(at, end);
      } else {
        // Several tokens share a few characters: each gets the whole range.
        for (size_t k = i; k < j; ++k) ranges.emplace_back(at, end);
      }
      at = end;
      i = j;
      found = true;
    }
    if (!found) return std::nullopt;
  }
  if (!jinja::strip(text.substr(at), jinja::Side::kLeft).empty()) return std::nullopt;
  return ranges;
}

ChatTokens tokenize_chat(const RenderedChat& chat, const Tokenizer& tokenizer, std::optional<uint32_t> end_of_document,
                         const std::string& where) {
  ChatTokens made;
  made.tokens = tokenizer.encode(chat.text, chat.is_plain);
  if (!chat.all) {
    // Excludes the ids that the tokenizer adds around a plain text.
    std::vector<uint32_t> inner = chat.is_plain ? tokenizer.encode(chat.text, false) : made.tokens;
    const auto begin = std::search(made.tokens.begin(), made.tokens.end(), inner.begin(), inner.end());
    const auto offset = static_cast<size_t>(begin - made.tokens.begin());
    std::string_view text = chat.text;
    std::string normal;
    auto ranges = token_ranges(text, inner, tokenizer);
    std::vector<std::pair<size_t, size_t>> trained = chat.trained;
    if (!ranges) {
      // The tokenizer may have normalised the text; then find the trained ranges in the normalised text.
      text = normalize(text, NormalForm::kNfc, normal);
      ranges = token_ranges(text, inner, tokenizer);
      for (auto& [from, to] : trained)
        for (size_t* place : {&from, &to}) {
          std::string storage;
          *place = normalize(std::string_view(chat.text).substr(0, *place), NormalForm::kNfc, storage).size();
        }
    }
    if (!ranges)
      fail(ExitCode::kBadInput,
           "the tokens do not spell the text they were made of, {}, use data.train_on: all or another tokenizer",
           where);
    made.weights.assign(made.tokens.size(), 0.0);
    size_t span = 0;
    for (size_t i = 0; i < ranges->size() && span < trained.size(); ++i) {
      const auto [from, to] = (*ranges)[i];
      while (span < trained.size() && from >= trained[span].second) ++span;
      if (span < trained.size() && to > trained[span].first) made.weights[offset + i] = 1.0;
    }
  }
  if (chat.is_plain && end_of_document) {
    made.tokens.push_back(*end_of_document);
    if (!chat.all) made.weights.push_back(1.0);
  }
  return made;
}

}  // namespace carillon
