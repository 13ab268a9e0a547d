// Converts a rendered conversation to tokens with weights as targets. The ids equal transformers'
// apply_chat_template(tokenize=True) and the weights its return_assistant_tokens_mask=True: a token counts if it
// overlaps the trained text. The beginning-of-text token is up to the template and never added.
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
  std::vector<double> weights;  // 0 or 1 per token; empty: all 1
};

// end_of_document is appended, as a target, if prompt and completion are plain texts. Throws error 65 naming `where` if
// the tokens cannot be aligned with the text (because the tokenizer changes it too much).
ChatTokens tokenize_chat(const RenderedChat& chat, const Tokenizer& tokenizer, std::optional<uint32_t> end_of_document,
                         const std::string& where);

// Returns for each token the bytes [begin, end) of `text` that it stands for; a character shared by several tokens
// belongs to each of them. Returns nothing if the tokens do not spell the text.
std::optional<std::vector<std::pair<size_t, size_t>>> token_ranges(std::string_view text,
                                                                   const std::vector<uint32_t>& tokens,
                                                                   const Tokenizer& tokenizer);

}  // namespace carillon
