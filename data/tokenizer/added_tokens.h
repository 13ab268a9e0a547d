// Tokens that are found in the text itself, before any normalising or splitting: "<|endoftext|>" and its like, from
// tokenizer.json's "added_tokens". Matching is leftmost, and the longest of those that begin at the same place.
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
  std::optional<std::string> decoded;  // where that is not the content
  bool single_word = false;            // only where neither neighbour is a word character
  bool lstrip = false;                 // swallows white space before it
  bool rstrip = false;                 // and after it
  bool normalized = false;             // sought in the normalised text, else in the text as given
  bool special = false;                // left out by decode(skip_special)
  bool operator==(const AddedToken&) const = default;
};

// A trie of tokens; linear in the text times the longest token, whatever the tokens are.
class AddedTokenMatcher {
 public:
  // `content` is what to look for (normalised for those that are sought in normalised text); empty ones are ignored.
  void add(std::string_view content, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }

  // Calls gap(text) and token(id, end) in the order of the text; gaps, views into the text, are not empty; the token
  // ends (with the white space it has swallowed) at byte `end`.
  void split(std::string_view text, const std::function<void(std::string_view)>& gap,
             const std::function<void(uint32_t, size_t)>& token) const;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  // The longest token that begins at `at`; its end, or npos.
  size_t longest(std::string_view text, size_t at, uint32_t& token) const;

  std::vector<AddedToken> tokens_;
  std::vector<uint32_t> token_of_node_ = {kNone};
  std::unordered_map<uint64_t, uint32_t> child_;  // (node << 8 | byte) -> node; the root is 0
  bool first_byte_[256] = {};
};

}  // namespace carillon
