// Converts a tokenizer to llama.cpp's keys `tokenizer.ggml.*`. There are two kinds:
//
//   gpt2    byte-level BPE of a tokenizer.json: tokens, merges, and the name (`pre`) of a way to split words that is
//           built into llama.cpp: gpt-2, smollm, qwen2, llama-bpe (a word that is a token is not split further) and
//           smaug-bpe (the same splitting without that);
//   llama   SentencePiece's BPE with byte fallback: tokens with scores, from a tokenizer.model, or from a
//           tokenizer.json converted from one, whose order of merges then gives the scores.
//
// Rows of the embedding beyond the tokenizer become unused tokens "[PAD17]".
#pragma once

#include <map>
#include <string>
#include <vector>

#include "data/formats/gguf_file.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct GgufVocabulary {
  const std::map<std::string, std::string>& files;  // tokenizer.json and similar files, by name
  const Tokenizer* tokenizer;                       // made from them; null: there is none, and token ids go in and out
  int64_t rows;                                     // of the embedding
  std::vector<int64_t> end_tokens;                  // config.json's eos_token_id
  std::string where;                                // names the model in messages
};

// Error 64 naming what llama.cpp cannot express (another pattern, another normaliser, tokens that swallow blanks, …),
// 65 for more tokens than rows. Adds to `notices` one line for each difference that remains.
GgufKeys gguf_tokenizer(const GgufVocabulary& vocabulary, std::vector<std::string>& notices);

}  // namespace carillon
