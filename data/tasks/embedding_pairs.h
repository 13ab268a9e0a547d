// Queries and the documents that answer them, for embeddings of long documents: the two generated tasks of LongEmbed
// (Zhu et al., 2404.12096, section 3.1) with our own words. Every document hides one fact about a unique name at a
// random place; the query of document i asks for its fact by that name.
//
//   passkey  a haystack that repeats, with somebody's pass key hidden in it, stated twice
//   needle   a haystack that does not repeat, with a fact about what to do in some place, stated once
//
// With a tokenizer documents are text; without one they are token ids, as in retrieval.h. Everything is a function of
// the options and the seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct EmbeddingPairOptions {
  std::string subtask = "passkey";  // or needle
  int64_t length = 0;               // maximal number of tokens of a document
  int64_t documents = 100;
  int64_t digits = 5;   // of a pass key, or symbols of a needle's value
  bool closed = false;  // whether to append the tokenizer's end token, if it has one
  uint64_t seed = 42;
};

class EmbeddingPairs {
 public:
  // Error 64 if the length has no room for a fact, or, without a tokenizer, if the vocabulary is smaller than 9.
  EmbeddingPairs(EmbeddingPairOptions options, const Tokenizer* tokenizer, int64_t vocabulary);

  std::vector<int32_t> document(int64_t index) const;  // error 64 if it does not fit
  std::vector<int32_t> query(int64_t index) const;

 private:
  struct Part {
    std::string text;
    std::vector<int32_t> tokens;
  };
  Part name(int64_t index) const;
  std::vector<int32_t> document(int64_t index, int64_t size) const;
  std::vector<int32_t> tokens_of(const std::vector<Part>& parts) const;

  EmbeddingPairOptions options_;
  const Tokenizer* tokenizer_;
  int64_t symbols_, filler_, needle_, question_, is_;  // ids, as in retrieval.h
  std::vector<int64_t> names_;                         // distinct numbers, one per document
  int64_t name_width_ = 2;                             // symbols of a name
  int64_t size_ = 0;                                   // haystack units that fit
};

}  // namespace carillon
