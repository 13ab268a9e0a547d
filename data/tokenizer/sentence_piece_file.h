// Parts of a SentencePiece model that the library's interface does not expose: each piece's score and kind, and how
// texts are prepared. Read directly from the protocol buffer (sentencepiece_model.proto).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace carillon {

struct SentencePieceFile {
  // ModelProto.SentencePiece.Type; llama.cpp's token types have the same numbers.
  enum Kind : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };
  struct Piece {
    std::string text;
    float score = 0;
    int32_t kind = kNormal;
  };
  std::vector<Piece> pieces;
  bool byte_pairs = false;           // TrainerSpec.model_type is BPE; UNIGRAM otherwise
  bool blank_in_front = true;        // NormalizerSpec.add_dummy_prefix
  bool removes_extra_blanks = true;  // NormalizerSpec.remove_extra_whitespaces
  bool maps_characters = false;      // NormalizerSpec.precompiled_charsmap is not empty

  // Error 65 if the bytes are not such a message.
  static SentencePieceFile parse(const std::string& bytes, const std::string& where);
};

}  // namespace carillon
