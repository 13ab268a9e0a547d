// The byte-pair encoding of one word: start from its characters, and join the neighbouring pair of lowest merge rank
// (leftmost first) until no pair is left (Sennrich et al., "Neural machine translation of rare words with subword
// units", 2016). A heap of candidate pairs over a linked list keeps it O(n log n) for words of any length.
// Behaviour is that of the `BPE` model of Hugging Face's tokenizers, whose JSON it reads.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace carillon {

// Lets a map of strings be asked with a string_view.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <class Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

class BytePairModel {
 public:
  // model: the object under "model": vocab, merges ("a b" or ["a","b"]), unk_token, fuse_unk, byte_fallback,
  // ignore_merges. Error 65 naming `where` for anything inconsistent: two tokens of one id, a merge of or into tokens
  // that do not exist; and for what is not supported: dropout, subword prefixes and suffixes.
  BytePairModel(const nlohmann::json& model, const std::string& where);

  // Appends the ids of one word (a piece that the pre-tokenizer left whole). Thread-safe.
  void encode(std::string_view word, std::vector<uint32_t>& ids) const;

  std::optional<uint32_t> id_of(std::string_view token) const;
  const std::string* token_of(uint32_t id) const;  // nullptr if there is none
  const StringMap<uint32_t>& tokens() const { return id_of_; }

 private:
  struct Merge {
    uint32_t rank;
    uint32_t result;
  };
  void first_symbols(std::string_view word, std::vector<uint32_t>& symbols) const;
  void merge(std::vector<uint32_t>& symbols, std::vector<uint32_t>& ids) const;

  StringMap<uint32_t> id_of_;
  std::unordered_map<uint32_t, const std::string*> token_of_;
  std::unordered_map<uint64_t, Merge> merges_;  // (left << 32 | right)
  std::optional<uint32_t> unknown_;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace carillon
