// Tasks that ask for something stated earlier in a long prompt: passkey (Mohtashami and Jaggi, 2305.16300), needle in a
// haystack (Kamradt, 2023), and RULER's synthetic tasks (Hsieh et al., 2404.06654) with our own word lists, zero-shot.
//
// Every prompt exists in two forms. With a tokenizer it is text. Without one it is token ids: with a vocabulary of V,
// the last three ids mark a needle (V-1), a question (V-2) and "is" (V-3). Of the remaining ids the first half are the
// symbols of keys and values, the second half is haystack. A number of `digits` digits has as many symbols.
//
//   passkey  a repeated haystack with the key at one depth, stated twice; asked for at the end
//   needle   a haystack that does not repeat (or the user's) with a fact at one depth; asked for at the end
//   niah_single, niah_multikey, niah_multivalue, niah_multiquery
//            numbers registered for names: one; one of four is asked for; four of one name; four names are asked for
//   vt       variable tracking: a number, and a chain of four names assigned from it; all five names are asked for
//   cwe, fwe common and frequent words extraction: the ten (three) most frequent words
//
// The haystack is as long as `length` allows. Sample `index` is a pure function of the options and the seed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/tokenizer/tokenizer.h"

namespace carillon {

struct RetrievalOptions {
  std::string task;
  int64_t length = 0;      // maximal number of tokens of prompt and answer together
  int64_t new_tokens = 0;  // of the answer; 0: as many as the task needs
  int64_t digits = 0;      // of a number; 0: 5 for passkey and vt, else 7
  uint64_t seed = 42;
  // needle with text: the hidden fact, the question, and what is searched for in the answer; empty: our own.
  std::string needle, question;
  std::vector<std::string> keywords;
  std::string haystack_text;             // needle: text whose sentences are repeated; empty: our own
  std::vector<int32_t> haystack_tokens;  // the same without a tokenizer
};

struct RetrievalSample {
  std::vector<int32_t> prompt;
  std::vector<std::string> references;         // with a tokenizer
  std::vector<std::vector<int64_t>> expected;  // without: the references as tokens
};

std::vector<std::string> ruler_subtasks();

class Retrieval {
 public:
  // If `tokenizer` is null, prompts are token ids. Error 64 if the length has no room for the task or the vocabulary is
  // smaller than 9.
  Retrieval(RetrievalOptions options, const Tokenizer* tokenizer, int64_t vocabulary);

  // `depth` in [0, 1] is for passkey and needle; the other tasks draw places. Error 64 if this sample does not fit.
  RetrievalSample sample(int64_t index, double depth) const;
  // A score in [0, 1]. passkey: whether the answer begins with the key (text: whether its first run of digits is the
  // key); needle: the share of the value's tokens (text: of the keywords) that are right; others: the share of
  // references that the answer contains.
  double score(const RetrievalSample& sample, std::span<const int64_t> answer) const;
  int64_t new_tokens() const { return options_.new_tokens; }

 private:
  struct Part {
    std::string text;
    std::vector<int64_t> tokens;
  };
  using Script = std::vector<Part>;
  class Draw;
  Script script(int64_t index, double depth, int64_t size, RetrievalSample& sample) const;
  Script single_fact(Draw& draw, double depth, int64_t size, RetrievalSample& sample) const;
  Script numbers(Draw& draw, int64_t size, RetrievalSample& sample) const;
  Script variables(Draw& draw, int64_t size, RetrievalSample& sample) const;
  Script words(Draw& draw, int64_t size, RetrievalSample& sample) const;
  Script haystack(Draw& draw, int64_t size) const;
  Script hidden(Draw& draw, Script needles, int64_t size) const;
  static bool taken(const std::vector<Part>& parts, const Part& part);
  Part number(Draw& draw) const;
  Part name(Draw& draw, std::vector<Part>& names) const;
  Part word(int64_t number) const;
  void expect(RetrievalSample& sample, const Part& part) const;
  std::vector<int32_t> tokens_of(const Script& script) const;

  RetrievalOptions options_;
  const Tokenizer* tokenizer_;
  int64_t symbols_, filler_, filler_count_, needle_, question_, is_;  // ids of the integer form
  int64_t word_width_ = 1;                                            // symbols of a word in cwe and fwe
  std::vector<std::string> sentences_;                                // the user's haystack
  int64_t size_ = 0;                                                  // haystack units (or words) that fit
};

}  // namespace carillon
