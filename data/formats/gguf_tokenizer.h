// A tokenizer as llama.cpp's keys `tokenizer.ggml.*`. Two kinds can be said:
//
//   gpt2    byte-level byte pairs of a tokenizer.json: tokens, merges, and the name of a way to cut words that
//   llama.cpp
//           has built in (`pre`): gpt-2, smollm, qwen2, llama-bpe (takes a word that is a token whole) and smaug-bpe
//           (the same cut without that);
//   llama   SentencePiece's byte pairs with byte fallback: tokens and a score each; of a tokenizer.model, or of a
//           tokenizer.json that is one converted, whose order of merges then gives the scores.
//
// Rows of the embedding beyond the tokenizer are unused tokens "[PAD17]".
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/formats/gguf_file.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct GgufVocabulary {
  const std::map<std::string, std::string>& files;  // tokenizer.json and its like, by name
  const Tokenizer* tokenizer;                       // what they make; null: none, then token ids go in and out
  int64_t rows;                                     // of the embedding
  std::vector<int64_t> end_tokens;                  // config.json's eos_token_id
  std::string where;                                // names the model in messages
};

// Error 64 naming what llama.cpp has no word for (another pattern, another normaliser, tokens that swallow blanks, …),
// 65 for more tokens than rows. `notices`: what a person should know of the difference that stays, a line each.
GgufKeys gguf_tokenizer(const GgufVocabulary& vocabulary, std::vector<std::string>& notices);

}  // namespace carillon
