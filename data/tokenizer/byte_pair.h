// The byte-pair encoding of one word: starts from its characters and repeatedly merges the neighbouring pair of the
// lowest merge rank (leftmost first) until no pair can be merged (Sennrich et al., "Neural machine translation of rare
// words with subword units", 2016). A heap of candidate pairs over a linked list needs O(n log n) time for words of any
// length. Behaves like the `BPE` model of Hugging Face's tokenizers, whose JSON it reads.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace carillon {

// Allows look-ups by string_view in a map of strings.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <class Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

class BytePairModel {
 public:
  // `model` is the object under "model": vocab, merges ("a b" or ["a","b"]), unk_token, fuse_unk, byte_fallback,
  // ignore_merges. Error 65 naming `where` for inconsistencies (two tokens with the same id, merges of or into tokens
  // that do not exist) and for what is not supported: dropout, subword prefixes and suffixes.
  BytePairModel(const nlohmann::json& model, const std::string& where);

  // Appends the ids of one word (a piece from the pre-tokenizer). Thread-safe.
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
