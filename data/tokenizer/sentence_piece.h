// SentencePiece models (tokenizer.model of Llama 2, Mistral and others), executed by their own library (Kudo and
// Richardson, 2018). The files tokenizer_config.json, special_tokens_map.json and added_tokens.json next to a model
// change it as in transformers 5 for Llama: added and special tokens are found in the text, and the model encodes the
// parts between them. The blank that it puts before a text is only put before the first part (before all with `legacy:
// true`), and not if the text itself begins with a blank. Without such files the library is used alone.
#pragma once

#include <memory>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/token_configuration.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

class SentencePieceTokenizer : public Tokenizer {
 public:
  // `model` is the content of the file. Error 65 if the library refuses it, if it is larger than any real one (64 MiB),
  // or if a file next to it is damaged or contradicts it.
  SentencePieceTokenizer(const std::string& path, const std::string& model, const TokenFiles& beside);
  ~SentencePieceTokenizer() override;

  // with_special: adds the beginning-of-text token in front unless add_bos_token is false, and the end token at the end
  // if add_eos_token is true.
  std::vector<uint32_t> encode(std::string_view text, bool with_special, std::vector<size_t>* ends) const override;
  std::string decode(std::span<const uint32_t> ids, bool skip_special) const override;
  int64_t vocabulary() const override;
  std::optional<uint32_t> id_of(std::string_view token) const override;
  std::vector<AddedToken> added_tokens() const override;

 private:
  struct Model;
  void read_beside(const TokenFiles& beside, const std::string& model);
  void add(AddedToken token);
  void encode_part(std::string_view text, bool with_blank, std::vector<uint32_t>& ids, std::vector<size_t>* ends,
                   size_t offset) const;

  std::unique_ptr<Model> model_;
  std::unordered_map<std::string, AddedToken> added_;
  std::unordered_map<uint32_t, AddedToken> added_by_id_;
  AddedTokenMatcher matcher_;
  std::optional<uint32_t> begin_, end_;  // put around a text
  bool blank_before_all_ = false;
};

}  // namespace carillon
