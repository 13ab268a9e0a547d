// A rendered conversation as tokens with their weights as targets. Ids equal transformers'
// apply_chat_template(tokenize=True), the weights its return_assistant_tokens_mask=True: a token counts when it
// overlaps what is trained, the beginning-of-text token is the template's own business and never added.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/chat/chat_template.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct ChatTokens {
  std::vector<uint32_t> tokens;
  std::vector<double> weights;  // 0 or 1 a token; empty: all 1
};

// end_of_document is put after prompt and completion that are plain texts, as a target. Error 65 naming `where` when
// the tokens cannot be laid over the text (a tokenizer that rewrites it beyond recognition).
ChatTokens tokenize_chat(const RenderedChat& chat, const Tokenizer& tokenizer, std::optional<uint32_t> end_of_document,
                         const std::string& where);

// The bytes [begin, end) of `text` that each token stands for; characters that several tokens share belong to each.
// Nothing when the tokens do not spell the text.
std::optional<std::vector<std::pair<size_t, size_t>>> token_ranges(std::string_view text,
                                                                   const std::vector<uint32_t>& tokens,
                                                                   const Tokenizer& tokenizer);

}  // namespace carillon
