// Queries and the documents that answer them, for embeddings of long documents: the two generated tasks of LongEmbed
// (Zhu et al., 2404.12096, section 3.1) with words of our own. Every document hides one fact about a name of its own,
// at a place of its own; the query of document i asks for its fact by that name.
//
//   passkey  a haystack that repeats, and in it the pass key of somebody, said twice
//   needle   a haystack that does not, and in it what to do somewhere, said once
//
// With a tokenizer documents are text; without one token ids, as in retrieval.h. All is a function of options and seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct EmbeddingPairOptions {
  std::string subtask = "passkey";  // or needle
  int64_t length = 0;               // tokens of a document, at most
  int64_t documents = 100;
  int64_t digits = 5;   // of a pass key, or symbols of a needle's value
  bool closed = false;  // the tokenizer's end token, if it has one, stands last
  uint64_t seed = 42;
};

class EmbeddingPairs {
 public:
  // Error 64 when the length has no room for a fact, or without a tokenizer the vocabulary is under 9.
  EmbeddingPairs(EmbeddingPairOptions options, const Tokenizer* tokenizer, int64_t vocabulary);

  std::vector<int32_t> document(int64_t index) const;  // error 64 when this one does not fit
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
  std::vector<int64_t> names_;                         // distinct numbers, one a document
  int64_t name_width_ = 2;                             // symbols of a name
  int64_t size_ = 0;                                   // haystack units that fit
};

}  // namespace carillon
