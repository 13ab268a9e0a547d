// The tokens of a GGUF, one a row of the embedding, and scores from merges.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer/sentence_piece_file.h"

namespace carillon {

struct GgufTokens {
  std::vector<std::string> text;
  std::vector<float> score;
  std::vector<int32_t> kind;  // SentencePieceFile::Kind

  explicit GgufTokens(int64_t rows)
      : text(static_cast<size_t>(rows)),
        score(static_cast<size_t>(rows)),
        kind(static_cast<size_t>(rows), SentencePieceFile::kUnused) {}
  void set(int64_t id, const std::string& content, int32_t of_kind);
  // Rows that nobody named become "[PAD17]".
  void name_unused();
};

using Merges = std::vector<std::pair<std::string, std::string>>;
// model.merges of a tokenizer.json: "a b" or ["a", "b"].
Merges merges_of(const nlohmann::json& model);

// SentencePiece joins, of all neighbours that make a token, those of the token with the highest score; a tokenizer.json
// those of the lowest merge. Both agree where merges into one token follow one another, and every two tokens that make
// a token are a merge: as in what transformers converts. The score is then minus the place of the token's first merge.
// `refuse` is told what is otherwise and does not return.
void score_by_merges(const Merges& merges, GgufTokens& tokens, const std::function<void(const std::string&)>& refuse);

}  // namespace carillon
