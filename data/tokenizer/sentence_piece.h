// SentencePiece models (tokenizer.model of Llama 2, Mistral and others), by their own library (Kudo and Richardson,
// 2018).
#pragma once

#include <memory>

#include "data/tokenizer/tokenizer.h"

namespace carillon {

class SentencePieceTokenizer : public Tokenizer {
 public:
  // `model`: the file's bytes. Error 65 when the library refuses it, or it is larger than any real one (64 MiB).
  SentencePieceTokenizer(const std::string& path, const std::string& model);
  ~SentencePieceTokenizer() override;

  // with_special puts the model's beginning-of-text id in front, as transformers does for Llama.
  std::vector<uint32_t> encode(std::string_view text, bool with_special) const override;
  std::string decode(std::span<const uint32_t> ids, bool skip_special) const override;
  int64_t vocabulary() const override;
  std::optional<uint32_t> id_of(std::string_view token) const override;

 private:
  struct Model;
  std::unique_ptr<Model> model_;
};

}  // namespace carillon
