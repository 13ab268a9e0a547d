// Converts text to token ids and back. There are two kinds: Hugging Face's tokenizer.json with a BPE model
// (hugging_face_tokenizer.h) and SentencePiece models (sentence_piece.h). An opened tokenizer is immutable; many
// threads may call encode and decode at once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace carillon {

struct AddedToken;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // `path` is a folder with tokenizer.json or (only if there is none) tokenizer.model, or one of these files. Error 66
  // if there is nothing, 65 if the file is damaged or of a kind that Carillon does not support, naming it.
  static std::unique_ptr<Tokenizer> open(const std::string& path);
  // The same from the texts of tokenizer.json and tokenizer_config.json (which may be empty); `where` names them in
  // messages.
  static std::unique_ptr<Tokenizer> from_json(const std::string& where, const std::string& tokenizer_json,
                                              const std::string& tokenizer_config_json);

  // with_special: adds what the tokenizer's post-processor puts around a text (Llama: a beginning-of-text token).
  // Tokens written out in the text ("<|endoftext|>") always become their ids. Error 65 for invalid UTF-8.
  //
  // ends: if not null, receives the byte of `text` at which each token ends. The values never decrease, and the last is
  // text.size(), so that their differences count every byte of the source once. Inside a word that was changed, or
  // whose characters were split, the bytes are divided in proportion; tokens from the post-processor get none.
  virtual std::vector<uint32_t> encode(std::string_view text, bool with_special,
                                       std::vector<size_t>* ends = nullptr) const = 0;

  // Bytes that are not UTF-8 become U+FFFD. skip_special omits tokens that the file marks as special. Ids without a
  // token are left out, as in transformers: models pad their vocabulary beyond the tokenizer's, and may generate those.
  virtual std::string decode(std::span<const uint32_t> ids, bool skip_special) const = 0;

  // One more than the largest id: a model's vocab_size must be at least this.
  virtual int64_t vocabulary() const = 0;
  virtual std::optional<uint32_t> id_of(std::string_view token) const = 0;
  // The tokens that are found in the text itself, by id.
  virtual std::vector<AddedToken> added_tokens() const = 0;

  // The end-of-document token: eos_token of tokenizer_config.json or special_tokens_map.json next to the tokenizer (the
  // latter comes first if the former has no added_tokens_decoder, as in transformers), else what a SentencePiece model
  // declares, else (the first) eos_token_id of config.json or generation_config.json. Nothing if none of them names
  // one; end_search() then tells for a warning where we looked.
  std::optional<uint32_t> eos() const { return eos_; }
  const std::string& end_search() const { return end_search_; }

  // Hash of the tokenizer's files: two tokenizers with the same value give the same ids.
  uint64_t hash() const { return hash_; }
  const std::string& path() const { return path_; }
  // The files by name, if they are stored inside another file (a model file), since `path` is then not a folder that
  // can be read. Empty otherwise.
  const std::map<std::string, std::string>& files() const { return files_; }
  void set_files(std::map<std::string, std::string> files) { files_ = std::move(files); }

 protected:
  std::map<std::string, std::string> files_;
  std::string path_;
  uint64_t hash_ = 0;
  std::optional<uint32_t> eos_;
  std::string end_search_;
};

}  // namespace carillon
