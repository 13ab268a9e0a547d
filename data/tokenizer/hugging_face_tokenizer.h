// tokenizer.json of Hugging Face's `tokenizers` with a BPE model: the Llama-3, Qwen, GPT-2 and SmolLM families, and
// Llama-2's if saved in this form. A text passes through
//
//   added tokens found in the original text -> normalizer -> added tokens found in the normalised text
//   -> pre-tokenizer (pre_tokenizer.h) -> byte pairs (byte_pair.h) -> post-processor (only with_special)
//
// The ids are the same as that library's, with which the tests compare them. Unknown features are refused by name when
// the file is opened, never ignored. Since pieces repeat, the ids of short ones are cached, in one table per concurrent
// encode() call. If the pre-tokenizer is one of the known ones (word_splitter.h), words are looked up in the original
// text.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/byte_pair.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/token_configuration.h"
#include "data/tokenizer/tokenizer.h"

namespace carillon {

class HuggingFaceTokenizer : public Tokenizer {
 public:
  // `path` names the file in messages; `text` is its content. The files next to it add tokens that tokenizer.json does
  // not list as added, and change the flags of those it does, as in transformers: a model's chat tokens may be in
  // tokenizer_config.json only.
  HuggingFaceTokenizer(const std::string& path, std::string_view text, const TokenFiles& beside);
  ~HuggingFaceTokenizer() override;

  std::vector<uint32_t> encode(std::string_view text, bool with_special, std::vector<size_t>* ends) const override;
  std::string decode(std::span<const uint32_t> ids, bool skip_special) const override;
  int64_t vocabulary() const override { return vocabulary_; }
  std::optional<uint32_t> id_of(std::string_view token) const override;
  std::vector<AddedToken> added_tokens() const override { return listed_; }

 private:
  using DecoderStep = std::function<void(std::vector<std::string>& parts)>;
  struct Pieces;  // piece -> ids

  void read(const nlohmann::json& file, const TokenFiles& beside);
  void read_added_tokens(const nlohmann::json& list, const TokenFiles& beside);
  void add_tokens_beside(const TokenFiles& beside, std::vector<AddedToken>& tokens);
  void add(const AddedToken& token);
  void read_post_processor(const nlohmann::json& description, int depth);
  using Spans = std::vector<std::pair<size_t, size_t>>;  // per piece: number of ids up to its end, and its end in the
                                                         // text
  void encode_gap(std::string_view text, bool at_start, Pieces& pieces, std::vector<uint32_t>& ids, Spans* spans) const;
  void share_out(const std::vector<uint32_t>& ids, const Spans& spans, std::vector<size_t>& ends) const;
  void encode_piece(std::string_view piece, Pieces& pieces, std::vector<uint32_t>& ids) const;

  std::unique_ptr<BytePairModel> model_;
  std::optional<WordSplitter> splitter_;  // set if the pre-tokenizer does only this and ByteLevel's map
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  std::unique_ptr<Normalizer> normalizer_;
  std::vector<DecoderStep> decoder_;
  AddedTokenMatcher raw_matcher_;
  AddedTokenMatcher normalized_matcher_;
  std::vector<AddedToken> listed_;                  // as in the files
  std::unordered_map<uint32_t, AddedToken> added_;  // as decode() needs them
  StringMap<uint32_t> added_ids_;
  std::vector<uint32_t> before_;  // what the post-processor puts before and after a text
  std::vector<uint32_t> behind_;
  int64_t vocabulary_ = 0;
  bool has_decoder_ = false;
  bool maps_bytes_ = false;  // each character of a token is a byte

  mutable std::mutex mutex_;  // protects idle_, the tables that no call is using
  mutable std::vector<std::unique_ptr<Pieces>> idle_;
};

// The "decoder" of tokenizer.json as steps that transform the tokens' texts, which are then joined (token_decoder.cpp).
std::vector<std::function<void(std::vector<std::string>&)>> make_token_decoder(const nlohmann::json& description,
                                                                               const std::string& where);

}  // namespace carillon
