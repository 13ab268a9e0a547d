// The tokens of a GGUF, one per row of the embedding, and scores derived from merges.
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
  // Names the rows without a token "[PAD17]".
  void name_unused();
};

using Merges = std::vector<std::pair<std::string, std::string>>;
// model.merges of a tokenizer.json: "a b" or ["a", "b"].
Merges merges_of(const nlohmann::json& model);

// SentencePiece merges, among all neighbours that form a token, those with the highest score; a tokenizer.json merges
// those with the lowest merge index. Both agree if all merges into the same token are consecutive, and if every pair of
// tokens that forms a token is a merge. This holds for what transformers converts. The score is then minus the index of
// the token's first merge. Otherwise `refuse` is called with the reason; it must not return.
void score_by_merges(const Merges& merges, GgufTokens& tokens, const std::function<void(const std::string&)>& refuse);

}  // namespace carillon
