#include "data/tokenizer/added_tokens.h"

#include <algorithm>

#include "data/tokenizer/unicode.h"

namespace carillon {

void AddedTokenMatcher::add(std::string_view content, const AddedToken& token) {
  if (content.empty()) return;
  uint32_t node = 0;
  for (const char c : content) {
    const auto next = static_cast<uint32_t>(token_of_node_.size());
    const auto [child, is_new] = child_.emplace(uint64_t{node} << 8 | static_cast<unsigned char>(c), next);
    if (is_new) token_of_node_.push_back(kNone);
    node = child->second;
  }
  first_byte_[static_cast<unsigned char>(content[0])] = true;
  token_of_node_[node] = static_cast<uint32_t>(tokens_.size());
  tokens_.push_back(token);
}

size_t AddedTokenMatcher::longest(std::string_view text, size_t at, uint32_t& token) const {
  size_t end = std::string_view::npos;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto child = child_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
    if (child == child_.end()) break;
    node = child->second;
    if (token_of_node_[node] == kNone) continue;
    token = token_of_node_[node];
    end = i + 1;
  }
  return end;
}

void AddedTokenMatcher::split(std::string_view text, const std::function<void(std::string_view)>& gap,
                              const std::function<void(uint32_t, size_t)>& token) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    uint32_t found = kNone;
    const size_t end =
        first_byte_[static_cast<unsigned char>(text[at])] ? longest(text, at, found) : std::string_view::npos;
    if (end == std::string_view::npos) {
      ++at;
      continue;
    }
    size_t begin = at, stop = end;
    at = end;
    const AddedToken& added = tokens_[found];
    if (added.single_word) {
      size_t before = begin, behind = stop;
      if (begin > 0 && is_word(previous_code_point(text, before))) continue;
      if (stop < text.size() && is_word(next_code_point(text, behind))) continue;
    }
    if (added.lstrip) {
      for (size_t before = begin; begin > 0 && is_white_space(previous_code_point(text, before));) begin = before;
      begin = std::max(begin, done);  // not what the token before has swallowed
      if (begin >= stop) continue;    // nor a token that was swallowed whole
    }
    if (added.rstrip)
      for (size_t behind = stop; stop < text.size() && is_white_space(next_code_point(text, behind));) stop = behind;
    if (done < begin) gap(text.substr(done, begin - done));
    token(added.id, stop);
    done = stop;
  }
  if (done < text.size()) gap(text.substr(done));
}

}  // namespace carillon
