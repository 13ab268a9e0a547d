// Tokens such as "<|endoftext|>" that are found in the text itself, before it is normalised or split; they come from
// "added_tokens" in tokenizer.json. The leftmost match is taken, and the longest of those that begin at the same place.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace carillon {

struct AddedToken {
  uint32_t id = 0;
  std::string content;
  std::optional<std::string> decoded;  // decoded text, if it differs from the content
  bool single_word = false;            // only matches if no neighbour is a word character
  bool lstrip = false;                 // includes white space before it
  bool rstrip = false;                 // includes white space after it
  bool normalized = false;             // searched for in the normalised text, otherwise in the original text
  bool special = false;                // omitted by decode(skip_special)
  bool operator==(const AddedToken&) const = default;
};

// A trie of tokens. Matching takes at most the length of the text times that of the longest token.
class AddedTokenMatcher {
 public:
  // `content` is the text to find (normalised for tokens that are searched for in normalised text); empty ones are
  // ignored.
  void add(std::string_view content, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }

  // Calls gap(text) and token(id, end) in the order of the text. Gaps are non-empty views into the text; `end` is the
  // byte at which the token ends, including white space after it.
  void split(std::string_view text, const std::function<void(std::string_view)>& gap,
             const std::function<void(uint32_t, size_t)>& token) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  // Finds the longest token that begins at `at`; returns its end, or npos.
  size_t longest(std::string_view text, size_t at, uint32_t& token) const;

  std::vector<AddedToken> tokens_;
  std::vector<uint32_t> token_of_node_ = {kNone};
  std::unordered_map<uint64_t, uint32_t> child_;  // (node << 8 | byte) -> node; the root is 0
  bool first_byte_[256] = {};
};

}  // namespace carillon
