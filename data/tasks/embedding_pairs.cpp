#include "data/tasks/embedding_pairs.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "data/tasks/retrieval_words.h"
#include "runtime/error.h"
#include "runtime/rng.h"

namespace carillon {
namespace {

// The random numbers of one document, drawn in order.
class Draw {
 public:
  Draw(uint64_t seed, const std::string& stream) : seed_(seed), stream_(stream_of(stream)) {}
  int64_t below(int64_t bound) {
    return static_cast<int64_t>(random_below(static_cast<uint64_t>(bound), seed_, stream_, next_++));
  }

 private:
  uint64_t seed_, stream_, next_ = 0;
};

}  // namespace

EmbeddingPairs::EmbeddingPairs(EmbeddingPairOptions options, const Tokenizer* tokenizer, int64_t vocabulary)
    : options_(std::move(options)), tokenizer_(tokenizer) {
  if (!tokenizer_ && vocabulary < 9)
    fail(ExitCode::kUsage, "a vocabulary of {} is too small for embedding, in tasks, it takes 9 ids or a tokenizer",
         vocabulary);
  symbols_ = (vocabulary - 3) / 2;
  filler_ = vocabulary - 3 - symbols_;
  needle_ = vocabulary - 1, question_ = vocabulary - 2, is_ = vocabulary - 3;
  // Many more names than documents, so that neighbouring numbers are rare.
  int64_t all = tokenizer_ ? kWords : symbols_ * symbols_;
  for (; !tokenizer_ && all < 16 * options_.documents; all *= symbols_) ++name_width_;
  if (options_.documents > all / 2)
    fail(ExitCode::kUsage, "{} documents need as many names, in tasks, there are {}: give fewer candidates",
         options_.documents, all / 2);
  Draw draw(options_.seed, "embedding names");
  std::unordered_set<int64_t> taken;
  while (static_cast<int64_t>(names_.size()) < options_.documents)
    if (const int64_t number = draw.below(all); taken.insert(number).second) names_.push_back(number);

  const auto room = [&](int64_t size) { return options_.length - static_cast<int64_t>(document(0, size).size()); };
  if (room(0) < 0)
    fail(ExitCode::kUsage, "length {} has no room for task embedding, in lengths, it takes {} tokens", options_.length,
         options_.length - room(0));
  size_ = largest_with_room(room);
}

std::vector<int32_t> EmbeddingPairs::document(int64_t index) const {
  // Names have different numbers of tokens: a document may have to be a little shorter than the one that was measured.
  for (int64_t size = size_;; --size) {
    std::vector<int32_t> tokens = document(index, size);
    if (static_cast<int64_t>(tokens.size()) <= options_.length) return tokens;
    if (size == 0)
      fail(ExitCode::kUsage, "length {} has no room for task embedding, in lengths, it takes {} tokens",
           options_.length, tokens.size());
  }
}

std::vector<int32_t> EmbeddingPairs::query(int64_t index) const {
  const Part who = name(index);
  Part part{options_.subtask == "passkey"
                ? fmt::format("What is the pass key of {}?", who.text)
                : fmt::format("What is the best thing to do on a free evening in {}?", who.text),
            {static_cast<int32_t>(question_)}};
  part.tokens.insert(part.tokens.end(), who.tokens.begin(), who.tokens.end());
  part.tokens.push_back(static_cast<int32_t>(is_));
  return tokens_of({part});
}

EmbeddingPairs::Part EmbeddingPairs::name(int64_t index) const {
  int64_t number = names_[static_cast<size_t>(index)];
  Part part;
  if (tokenizer_) {
    part.text = word_of(number);
    return part;
  }
  for (int64_t i = 0; i < name_width_; ++i, number /= symbols_)
    part.tokens.push_back(static_cast<int32_t>(number % symbols_));
  return part;
}

std::vector<int32_t> EmbeddingPairs::document(int64_t index, int64_t size) const {
  const bool passkey = options_.subtask == "passkey";
  Draw draw(options_.seed, fmt::format("embedding/{}/{}", options_.subtask, index));
  const Part who = name(index);
  std::string value;
  std::vector<int32_t> symbols;
  for (int64_t i = 0; i < options_.digits; ++i) {
    value += static_cast<char>('0' + (i == 0 ? 1 + draw.below(9) : draw.below(10)));
    symbols.push_back(static_cast<int32_t>(draw.below(symbols_)));
  }
  if (!passkey) value = word_of(draw.below(4096));
  Part fact{
      passkey
          ? fmt::format("The pass key of {0} is {1}. Keep it in mind: {1} is the pass key of {0}.", who.text, value)
          : fmt::format("The best thing to do on a free evening in {} is to see the {} collection.", who.text, value),
      {static_cast<int32_t>(needle_)}};
  fact.tokens.insert(fact.tokens.end(), who.tokens.begin(), who.tokens.end());
  fact.tokens.push_back(static_cast<int32_t>(is_));
  fact.tokens.insert(fact.tokens.end(), symbols.begin(), symbols.end());
  if (passkey) {
    const std::vector<int32_t> once = fact.tokens;
    fact.tokens.insert(fact.tokens.end(), once.begin(), once.end());
  }
  // The place is a fraction of the whole, drawn before the haystack, and so the same fraction for every size.
  constexpr int64_t kShares = int64_t{1} << 20;
  const int64_t at = draw.below(kShares) * (size + 1) / kShares;
  std::vector<Part> parts;
  for (int64_t i = 0; i < size; ++i) {
    if (i == at) parts.push_back(fact);
    Part unit;
    if (tokenizer_)
      unit.text = passkey ? plain_sentences()[static_cast<size_t>(i) % plain_sentences().size()]
                          : sentence_of(draw.below(64 * 64 * 8), draw.below(64 * 64));
    else
      unit.tokens = {static_cast<int32_t>(symbols_ + (passkey ? i % filler_ : draw.below(filler_)))};
    parts.push_back(std::move(unit));
  }
  if (at >= size) parts.push_back(fact);
  return tokens_of(parts);
}

std::vector<int32_t> EmbeddingPairs::tokens_of(const std::vector<Part>& parts) const {
  std::vector<int32_t> tokens;
  if (!tokenizer_) {
    for (const Part& part : parts) tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    return tokens;
  }
  std::string text;
  for (const Part& part : parts) text += (text.empty() ? "" : " ") + part.text;
  const std::vector<uint32_t> ids = tokenizer_->encode(text, /*with_special=*/true);
  tokens.assign(ids.begin(), ids.end());
  if (options_.closed && tokenizer_->eos() && (ids.empty() || ids.back() != *tokenizer_->eos()))
    tokens.push_back(static_cast<int32_t>(*tokenizer_->eos()));
  return tokens;
}

}  // namespace carillon
